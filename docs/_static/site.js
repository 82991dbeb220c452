// The side bar's folds have a sign and no name, which a screen reader needs.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("nav li > details > summary")) {
    const link = summary.closest("li").querySelector("a");
    if (link && !summary.textContent.trim()) summary.setAttribute("aria-label", `Pages of ${link.textContent.trim()}`);
  }
});

// Questions, lessons and terms that share words with what somebody typed: below the field on the first page, and above
// the pages that Sphinx's search finds, which have to hold every word.
document.addEventListener("DOMContentLoaded", () => {
  const typed = document.querySelector("form.question input");
  const searched = document.querySelector("#search-results");
  if (!typed && !searched) return;

  const FEW = 8;
  const COMMON = new Set("a an and are be by can do does for from how i if in is it me my of on or so the to what which why with".split(" "));
  const words = (text) =>
    (text.toLowerCase().match(/[\p{L}\p{N}]{2,}|\p{N}/gu) || []).filter((word) => !COMMON.has(word));
  // Endings differ: "imbalanced" finds "imbalance", "touching" finds "touch".
  const begins = (word) => word.slice(0, Math.max(4, word.length - 3));
  const alike = (one, other) =>
    one === other ||
    (Math.min(one.length, other.length) > 3 && (one.startsWith(begins(other)) || other.startsWith(begins(one))));

  function matching(query) {
    const entries = window.QUESTIONS.map((entry) => ({ ...entry, words: words(`${entry.text} ${entry.url} ${entry.more}`) }));
    const has = (entry, word) => entry.words.some((other) => alike(word, other));
    const asked = [...new Set(words(query))].map((word) => {
      const often = entries.filter((entry) => has(entry, word)).length;
      return { word, weight: often ? Math.log(1 + entries.length / often) : 0 };
    });
    const all = asked.reduce((sum, { weight }) => sum + weight, 0);
    for (const entry of entries) {
      entry.score = asked.reduce((sum, { word, weight }) => sum + (has(entry, word) ? weight : 0), 0);
    }
    return entries
      .filter((entry) => all > 0 && entry.score >= 0.4 * all)
      .sort((one, other) => other.score - one.score || one.words.length - other.words.length)
      .slice(0, FEW);
  }

  function list(query) {
    const items = matching(query).map((entry) => {
      const link = document.createElement("a");
      link.href = document.documentElement.dataset.content_root + entry.url;
      link.textContent = entry.text;
      const item = document.createElement("li");
      item.append(link, ` (${entry.where})`);
      return item;
    });
    found.replaceChildren(...items);
    found.hidden = items.length === 0;
  }

  const found = document.createElement("ul");
  found.className = "found";
  found.setAttribute("aria-live", "polite");
  found.setAttribute("aria-label", "Questions and terms with these words");
  const script = document.createElement("script");
  script.src = document.documentElement.dataset.content_root + "_static/questions.js";
  script.onload = () => {
    if (typed) {
      typed.form.after(found);
      typed.addEventListener("input", () => list(typed.value));
    } else {
      searched.before(found);
    }
    list(typed ? typed.value : new URLSearchParams(location.search).get("q") || "");
  };
  document.head.append(script);
});
