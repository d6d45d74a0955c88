// Run by browser.sh: node look.mjs FOLDER, with report.html in it.
import { chromium } from "playwright-core";
import { pathToFileURL } from "node:url";
import path from "node:path";

const folder = process.argv[2];
const address = pathToFileURL(path.join(folder, "report.html")).href;
const browser = await chromium.launch({ executablePath: process.env.BROWSER, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const faults = [];

for (const [name, width, height] of [["phone", 375, 812], ["desktop", 1280, 900]]) {
  for (const colorScheme of ["light", "dark"]) {
    const at = `${name}, ${colorScheme}`;
    const fault = (text) => faults.push(`${at}: ${text}`);
    const context = await browser.newContext({ viewport: { width, height }, colorScheme, isMobile: name === "phone", deviceScaleFactor: 1 });
    const page = await context.newPage();
    page.on("console", (m) => ["error", "warning"].includes(m.type()) && fault(`console: ${m.text()}`));
    page.on("pageerror", (e) => fault(`error: ${e.message}`));
    page.on("request", (r) => r.url().split("#")[0] !== address && fault(`it loads ${r.url()}`));
    await page.goto(address, { waitUntil: "load" });

    // What matters is on the first screens, before any scrolling to it.
    const first = await page.locator("ul.findings li").first();
    if (!(await first.isVisible())) fault("the first finding is not visible");
    if ((await first.getAttribute("class")) !== "danger") fault("the first finding is no danger");
    const top = (await first.boundingBox()).y;
    if (top > 2 * height) fault(`the first finding is ${Math.round(top)} pixels down`);

    // Every difference opens by its summary, as by the keyboard. Those of the
    // generator's own files are open from the start.
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = false)));
    const closed = await page.locator("details").count();
    if (closed < 3) fault(`only ${closed} differences`);
    for (const summary of await page.locator("summary").all()) {
      await summary.focus();
      await page.keyboard.press("Enter");
    }
    const open = await page.locator("details[open]").count();
    if (open !== closed) fault(`${open} of ${closed} differences open`);
    if ((await page.locator("pre span.minus").count()) < 1 || (await page.locator("pre span.plus").count()) < 1) fault("no changed line is shown");

    const seen = await page.evaluate(() => {
      const luminance = (c) => {
        const [r, g, b] = c.match(/[\d.]+/g).slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const background = (e) => {
        for (; e; e = e.parentElement) {
          const c = getComputedStyle(e).backgroundColor;
          if (c !== "rgba(0, 0, 0, 0)" && c !== "transparent") return c;
        }
        return "rgb(255, 255, 255)";
      };
      let smallest = 100, contrast = 100, worst = "";
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      for (let node; (node = walker.nextNode()); ) {
        const e = node.parentElement;
        if (!node.textContent.trim() || ["STYLE", "SCRIPT"].includes(e.tagName)) continue;
        const style = getComputedStyle(e);
        smallest = Math.min(smallest, parseFloat(style.fontSize));
        const [a, b] = [luminance(style.color), luminance(background(e))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < contrast) [contrast, worst] = [ratio, node.textContent.trim().slice(0, 40)];
      }
      return { wide: document.documentElement.scrollWidth, smallest, contrast, worst };
    });
    if (seen.wide > width) fault(`the page is ${seen.wide} pixels wide`);
    if (seen.smallest < 12) fault(`text of ${seen.smallest} pixels`);
    if (seen.contrast < 4.5) fault(`contrast of ${seen.contrast.toFixed(2)} at "${seen.worst}" (WCAG 2 asks for 4.5)`);
    await page.evaluate(() => { document.querySelectorAll("details").forEach((d) => (d.open = false)); window.scrollTo(0, 0); document.activeElement?.blur(); });
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}.png`) });
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}-whole.png`), fullPage: true });
    await context.close();
    console.log(`browser: ${at}: ${closed} differences, smallest text ${seen.smallest} px, least contrast ${seen.contrast.toFixed(1)}`);
  }
}
await browser.close();
if (faults.length > 0) {
  console.error(faults.map((f) => `browser: FAULT: ${f}`).join("\n"));
  process.exit(1);
}
console.log("browser: the review page is in order");
