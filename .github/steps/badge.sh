#!/usr/bin/env bash
# The badge of the nightly run: the date of the last green one, on green or, while it is red, on red.
#   badge.sh OUTCOME FOLDER      FOLDER keeps the date in last-green.txt, and gets nightly.svg
set -euo pipefail
outcome="$1" folder="$2"
mkdir -p "$folder"
if [ "$outcome" = success ]; then date -u +%F >"$folder/last-green.txt"; fi
shown="$(cat "$folder/last-green.txt" 2>/dev/null || echo never)"
colour="$([ "$outcome" = success ] && echo '#1a7f37' || echo '#b42318')"
cat >"$folder/nightly.svg" <<SVG
<svg xmlns="http://www.w3.org/2000/svg" width="200" height="20" role="img" aria-label="last green run: $shown">
  <title>last green run: $shown</title>
  <rect width="200" height="20" rx="3" fill="#444"/>
  <path d="M108 0h89a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-89z" fill="$colour"/>
  <g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
    <text x="54" y="14">last green run</text>
    <text x="154" y="14">$shown</text>
  </g>
</svg>
SVG
