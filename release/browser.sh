#!/bin/sh
# Looks at the review page in a real browser, at the width of a phone and of a
# desktop, light and dark: no error, nothing loaded, nothing wider than the
# screen, text large enough, every difference opens. Pictures go to build/browser.
#
# Needs chromium (Debian: apt-get install chromium) and node with npm; it
# installs playwright-core into build/browser. What is missing is said: with
# CI=true that is a failure, elsewhere the script ends well.
set -eu
cd "$(dirname "$0")/.."

missing() {
	echo "browser: MISSING: $1"
	[ "${CI:-}" = true ] && exit 1
	echo "browser: the page was NOT looked at"
	exit 0
}
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || missing "chromium (Debian: apt-get install chromium)"
command -v node >/dev/null || missing "node (Debian: apt-get install nodejs npm)"
command -v npm >/dev/null || missing "npm (Debian: apt-get install npm)"
out=build/browser
mkdir -p "$out"
if [ ! -d "$out/node_modules/playwright-core" ]; then
	npm install --silent --no-audit --no-fund --no-save --prefix "$out" playwright-core@1.56.1 >/dev/null 2>&1 || missing "playwright-core from npm"
fi
rm -f "$out/report.html"
STAKESEAL_REPORT_PAGE="$PWD/$out/report.html" go test -count=1 -run '^TestPage$' ./release
[ -s "$out/report.html" ] || missing "the page: TestPage was skipped"
cp release/browser.mjs "$out/look.mjs"
BROWSER="$browser" node "$out/look.mjs" "$PWD/$out"
