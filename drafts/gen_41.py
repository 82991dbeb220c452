import sys
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

cells = []


def add(cell, tags):
    cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    cell.id = f"c{len(cells):03}"
    cells.append(cell)


def md(text, tags=()):
    add(new_markdown_cell(text.strip("\n")), list(tags))


def code(text, tags=()):
    add(new_code_cell(text.strip("\n")), list(tags))


exec(open("/tmp/wt/lesson_41.py", encoding="utf-8").read())
notebook = new_notebook(cells=cells)
notebook.metadata = nbformat.from_dict({
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
})
path = sys.argv[1]
open(path, "w", encoding="utf-8").write(nbformat.writes(notebook) + "\n")
