// Opens one page, as `genmod card` writes it, in headless Chromium and prints what is wrong with it, as JSON: {check: [problem, ...]}.
//
//     node tests/card.mjs card.html [--shots FOLDER]      also writes pictures, narrow and wide, light and dark, and the page on paper
//
// The exit status is 0 if all is well, 1 if not, and 3 if there is no Chromium.
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: options, positionals: [file] } = parseArgs({ allowPositionals: true, options: { shots: { type: "string" } } });
const require = createRequire(import.meta.url), { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"), url = pathToFileURL(resolve(file)).href;
const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
const executablePath = process.env.PATH.split(delimiter).flatMap(d => names.map(n => join(d, n))).find(p => existsSync(p));
if (!executablePath) { console.error("no Chromium on the PATH"); process.exit(3); }

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"] });
const page = await (await browser.newContext()).newPage(), report = {}, say = (check, problem) => (report[check] ??= []).push(problem);
page.on("console", message => say("console", message.text()));
page.on("pageerror", error => say("console", String(error)));
page.on("request", request => { if (request.url() !== url && !request.url().startsWith("data:")) say("requests", request.url()); });

// what stands beyond the right edge of the page; within a box that scrolls it may
const wide = paper => {
  const width = document.documentElement.clientWidth;
  return [...document.querySelectorAll("body *")].filter(e => (paper || !e.closest(".scroll")) && e.getBoundingClientRect().right > width + 1)
    .map(e => `${e.tagName} ends at ${Math.round(e.getBoundingClientRect().right)} of ${width} px: ${e.textContent.trim().slice(0, 40)}`).slice(0, 3);
};
if (options.shots) mkdirSync(options.shots, { recursive: true });
await page.goto(url);
for (const width of [390, 1440]) for (const colorScheme of ["light", "dark"]) {
  await page.setViewportSize({ width, height: 900 });
  await page.emulateMedia({ colorScheme });
  for (const problem of await page.evaluate(wide, false)) say("width", `at ${width} px, ${problem}`);
  if (await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth)) say("width", `the page scrolls sideways at ${width} px`);
  // ours runs in a page that has no script of its own
  const found = await page.evaluate(`${axe}; axe.run({ resultTypes: ["violations"], preload: false })`);
  for (const { id, nodes } of found.violations.filter(f => ["serious", "critical"].includes(f.impact))) {
    say("accessibility", `${width} px, ${colorScheme}, ${id}: ${nodes.slice(0, 3).map(n => n.html.slice(0, 120)).join(" | ")}`);
  }
  if (options.shots) await page.screenshot({ path: join(options.shots, `card-${width}-${colorScheme}.png`), fullPage: true });
}
// A4 less the margins that the page asks for: 210 mm - 2 x 15 mm, at 96 pixels an inch
await page.setViewportSize({ width: 680, height: 1000 });
await page.emulateMedia({ media: "print", colorScheme: "light" });
for (const problem of await page.evaluate(wide, true)) say("paper", problem);
const pdf = await page.pdf({ format: "A4", preferCSSPageSize: true, path: options.shots && join(options.shots, "card.pdf") });
if (pdf.length < 10000) say("paper", "the pdf is empty");
if (options.shots) await page.screenshot({ path: join(options.shots, "card-paper.png"), fullPage: true });
await browser.close();
console.log(JSON.stringify(report, null, 1));
process.exit(Object.keys(report).length ? 1 : 0);
