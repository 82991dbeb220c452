#!/usr/bin/env bash
# Put a folder onto the branch gh-pages, from which GitHub serves the site; without FOLDER, all but the badges is replaced.
#   publish.sh SOURCE [FOLDER]
set -euo pipefail
source="$(cd "$1" && pwd)" folder="${2:-}"
pages="$(mktemp -d)/pages"
export GIT_AUTHOR_NAME="github-actions[bot]" GIT_AUTHOR_EMAIL="github-actions[bot]@users.noreply.github.com"
export GIT_COMMITTER_NAME="$GIT_AUTHOR_NAME" GIT_COMMITTER_EMAIL="$GIT_AUTHOR_EMAIL"
start="$(git commit-tree "$(git mktree </dev/null)" -m "Pages")"
if git ls-remote --exit-code origin refs/heads/gh-pages >/dev/null; then
    git fetch --quiet --depth=1 origin gh-pages
    start=FETCH_HEAD
fi
git worktree add --quiet --detach "$pages" "$start"
trap 'git worktree remove --force "$pages"' EXIT
if [ -n "$folder" ]; then
    rm -rf "${pages:?}/$folder"
else
    find "$pages" -mindepth 1 -maxdepth 1 ! -name .git ! -name badges -exec rm -rf {} +
fi
mkdir -p "$pages/$folder"
cp -R "$source/." "$pages/$folder/"
# GitHub would leave out folders such as _static.
touch "$pages/.nojekyll"
git -C "$pages" add --all --force
# Built pages have no history: it would only make the branch grow.
commit="$(git commit-tree "$(git -C "$pages" write-tree)" -m "Pages of $(git rev-parse --short HEAD)")"
git push --quiet --force origin "$commit:refs/heads/gh-pages"
