// Opens every page of a folder in headless Chromium and prints what is wrong with it, as JSON: {page: {check: [problem, ...]}}.
//
//     node tests/browser.mjs _docs            the offline edition, straight from the disk
//     node tests/browser.mjs _docs --quarto   the Quarto book, from a server on this machine, without the checks of our own template; each
//                                             page once as on the internet (require.js and jQuery are answered), and once without a network
//     ... --shots FOLDER                      writes pictures of every page as well, narrow and wide, light and dark
//
// The exit status is 0 if all is well, 1 if not, and 3 if there is no Chromium.
import { createReadStream, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { delimiter, extname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: options, positionals: [folder] } = parseArgs({
  allowPositionals: true, options: { quarto: { type: "boolean" }, shots: { type: "string" } },
});
const root = resolve(folder), pages = readdirSync(root).filter(f => f.endsWith(".html") && f !== "404.html").sort();
const require = createRequire(import.meta.url), { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
const executablePath = process.env.PATH.split(delimiter).flatMap(d => names.map(n => join(d, n))).find(p => existsSync(p));
if (!executablePath) { console.error("no Chromium on the PATH"); process.exit(3); }

// ---------------------------------------------------------------- what is looked for in a page, run inside of it
function look(ours) {
  const problems = {}, say = (check, text) => (problems[check] ??= []).push(text);
  const address = e => e.src.slice(0, 80);      // a picture within the page is thousands of letters long
  const name = e => e.id || e.textContent.trim().replace(/\s+/g, " ").slice(0, 60);

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    if (node.parentElement.closest("code, pre, script, style, .katex, math, [hidden]")) continue;
    const raw = node.textContent.match(/\?@|\$\$|:::|#\||(?<!\w)@(?:fig|tbl|eq|sec)-|\[\[caption|\{#|\{\.|\(\?\?\?\)|ipynb\)/);
    if (raw) say("raw syntax", `${raw[0]} in: ${node.textContent.trim().slice(0, 80)}`);
  }
  for (const e of document.querySelectorAll("pre")) if (/^\s*#\| ?\w/m.test(e.textContent)) say("raw syntax", `#| in: ${name(e)}`);

  for (const e of document.querySelectorAll("span.math")) if (!e.querySelector(".katex")) say("equations", `not rendered: ${name(e)}`);
  for (const e of document.querySelectorAll(".katex-error")) say("equations", `${e.title}: ${name(e)}`);

  for (const e of document.querySelectorAll("main img")) {
    if ((e.alt ?? "").length < 20) say("figures", `no alternative text: ${address(e)}`);
    if (!e.complete || !e.naturalWidth) say("figures", `not loaded: ${address(e)}`);
  }
  if (ours) for (const e of document.querySelectorAll("main img")) if (!e.closest(".figure")) say("figures", `not in a figure with a caption: ${address(e)}`);
  for (const e of document.querySelectorAll("[id^='fig-'], [id^='tbl-']")) {
    const figure = e.closest("figure, .figure, .quarto-float, table") ?? e;
    const caption = figure.querySelector(".caption, figcaption, caption");
    if (!/(Figure|Table)\s[\dA-Z.]+\S*\s+\S/.test(caption?.textContent ?? "")) say("figures", `no caption: ${e.id}`);
  }

  for (const e of document.querySelectorAll("main pre")) {
    const box = e.closest("div.sourceCode") ?? e, over = Math.max(box.scrollWidth - box.clientWidth, e.scrollWidth - e.clientWidth);
    if (over > 1) say("code", `cut off by ${over} px: ${name(e)}`);
  }

  const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) if (ours) say("links", `identifier used twice: ${id}`);
  const links = [...document.querySelectorAll("a[href]")].filter(a => a.href && !a.href.startsWith("javascript:")).map(a => a.href);
  return { problems, links: [...new Set(links)], ids };
}

function overflow() {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > width + 1 && !e.closest("pre, .scroll"));
  return [`${document.documentElement.scrollWidth} px of ${width}: ${wide.slice(0, 3).map(e => e.tagName + "." + e.className).join(", ")}`];
}

// The names of functions in the navigation: as clear against what is behind them as WCAG asks (4.5), or as the words beside them
function contrast() {
  const numbers = text => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; };
  const ratio = e => {
    const [dark, bright] = [light(numbers(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => x - y);
    return (bright + 0.05) / (dark + 0.05);
  };
  const dim = [...document.querySelectorAll(":is(nav, .sidebar, header) code")].filter(e => e.checkVisibility() && ratio(e) < Math.min(4.5, ratio(e.parentElement)));
  return [...new Set(dim.map(e => `${ratio(e).toFixed(1)}:1 in ${e.closest("[id]")?.id ?? "the navigation"}: ${e.textContent}`))];
}

// ---------------------------------------------------------------- the keyboard and the search, on our own template
async function keyboard(page) {
  const problems = [], focused = () => page.evaluate(() => {
    const e = document.activeElement;
    return e.className === "skip" ? "skip" : e.id || (e.closest(".side") ? "contents" : e.closest("main") ? "text" : e.closest("#book-results") ? `result ${[...e.closest("ul").children].indexOf(e.parentElement)}` : e.tagName);
  });
  const expect = async (what, value) => { const got = await focused(); if (got !== value) problems.push(`${what}: the focus is on ${got}, not on ${value}`); };
  const press = key => page.keyboard.press(key);
  await press("Tab"); await expect("the first Tab", "skip");
  await press("Enter");
  if (!page.url().endsWith("#book-text")) problems.push("the skip link does not go to the text");
  await press("Tab"); await expect("Tab after the skip link", "text");
  await page.goto(page.url().replace("#book-text", "")); await page.reload();
  const seen = [];
  for (let i = 0; i < 8; i++) { await press("Tab"); seen.push(await focused()); }
  for (const stop of ["book-search", "book-theme", "contents"]) if (!seen.includes(stop)) problems.push(`Tab does not reach ${stop}, but ${seen}`);
  for (const word of ["truncated", "Kendall"]) {
    await page.locator("#book-search").focus();
    await page.locator("#book-search").fill("");
    await page.keyboard.type(word);
    await page.waitForFunction(w => document.querySelector("#book-results mark") && document.querySelector("#book-search").value === w, word)
      .catch(() => problems.push(`the search does not find ${word}`));
  }
  await press("ArrowDown"); await expect("arrow down", "result 0");
  await press("ArrowDown"); await expect("arrow down twice", "result 1");
  await press("ArrowUp"); await expect("arrow up", "result 0");
  await press("ArrowUp"); await expect("arrow up from the first", "book-search");
  await press("Escape");
  if (await page.locator("#book-results").isVisible()) problems.push("Escape does not close the results");
  await page.locator("#book-search").fill("truncated"); await page.waitForSelector("#book-results a");
  await press("ArrowDown");
  const target = await page.evaluate(() => document.activeElement.href);
  await press("Enter"); await page.waitForURL(target).catch(() => problems.push(`Enter does not open ${target}`));
  await page.locator("#book-theme").focus(); const before = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await press("Enter"); await page.reload();
  if (await page.evaluate(() => getComputedStyle(document.body).backgroundColor) === before) problems.push("the button does not keep the other colours");
  await page.evaluate(() => localStorage.clear());
  return problems;
}

// ---------------------------------------------------------------- every page
const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml", ".woff2": "font/woff2" };
const server = createServer((request, answer) => {
  const path = join(root, decodeURIComponent(new URL(request.url, "http://localhost").pathname));
  if (request.url === "/favicon.ico") return answer.writeHead(204).end();     // Chromium's own request, not the page's
  if (!path.startsWith(root) || !existsSync(path)) return answer.writeHead(404).end();
  answer.writeHead(200, { "content-type": types[extname(path)] ?? "application/octet-stream" });
  // the scripts that are answered below are the same, but not byte by byte
  if (extname(path) === ".html") return answer.end(readFileSync(path, "utf8").replace(/ integrity="[^"]*"/g, ""));
  createReadStream(path).pipe(answer);
});
await new Promise(done => options.quarto ? server.listen(0, "127.0.0.1", done) : done());
const base = options.quarto ? `http://127.0.0.1:${server.address().port}/` : pathToFileURL(root + "/").href;

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
const report = {}, seen = {};
const page = await (await browser.newContext({ reducedMotion: "reduce" })).newPage();
page.setDefaultTimeout(60000);     // a busy machine is no defect of a page
let here, online = true;
const elsewhere = { "require": "requirejs/require.js", "jquery": "jquery/dist/jquery.min.js" };
await page.route(url => /^https?:/.test(url) && !url.href.startsWith(base), route => {
  const name = Object.keys(elsewhere).find(n => new URL(route.request().url()).pathname.includes(`/${n}.`));
  if (!online || !name) return route.abort();
  return route.fulfill({ path: require.resolve(elsewhere[name]), contentType: "text/javascript", headers: { "access-control-allow-origin": "*" } });
});
const say = (check, problem) => ((report[here] ??= {})[check] ??= []).push(problem);
page.on("console", message => { if (message.type() === "error") say("console", message.text()); });
page.on("pageerror", error => say("console", String(error)));
page.on("requestfailed", request => say("requests", `${request.url()}: ${request.failure().errorText}`));
page.on("request", request => { if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(base)) say("requests", request.url()); });

const views = [[1440, 900, "light"], [390, 844, "dark"]];
async function view([width, height, colorScheme]) {
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  // the page hears of its new size with the next frame
  await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
}
for (here of pages) {
  report[here] = {};
  await view(views[0]);
  await page.goto(base + here);
  await page.evaluate(() => Promise.all([...document.images].map(i => { i.loading = "eager"; return i.decode().catch(() => {}); })));
  const { problems, links, ids } = await page.evaluate(look, !options.quarto);
  Object.assign(report[here], { ...problems, ...report[here] });
  seen[here] = { links, ids };
  for (const v of [...views].reverse()) {
    await view(v);
    for (const problem of await page.evaluate(overflow)) say("width", `at ${v[0]} px, ${problem}`);
  }
  if (options.quarto) {
    for (const problem of await page.evaluate(contrast)) say("contrast", `light, ${problem}`);
    await view([1440, 900, "dark"]);
    for (const problem of await page.evaluate(contrast)) say("contrast", `dark, ${problem}`);
    online = false;
    await page.reload();
    online = true;
    for (const problem of (await page.evaluate(look, false)).problems.equations ?? []) say("equations", `without a network, ${problem}`);
    continue;
  }
  // the thousands of parts of code and equations are made alike on every page: looked at on one, and elsewhere as a word each
  if (here !== pages[0]) await page.evaluate(() => {
    document.querySelectorAll("pre code, .katex").forEach(e => { e.textContent = "word"; });
    dispatchEvent(new Event("resize"));
  });
  await page.evaluate(axe);
  for (const v of views) {
    await view(v);
    const found = await page.evaluate(() => axe.run({ resultTypes: ["violations"], preload: false }));
    for (const { id, nodes } of found.violations.filter(f => ["serious", "critical"].includes(f.impact))) {
      say("accessibility", `${v[2]}, ${id}: ${nodes.slice(0, 3).map(n => n.html.slice(0, 120)).join(" | ")}`);
    }
  }
}
for (here of pages) {
  for (const link of seen[here].links.filter(l => l.startsWith(base))) {
    const [path, anchor] = link.slice(base.length).split("#"), target = decodeURIComponent(path) || "index.html";
    if (!seen[target] && !existsSync(join(root, target))) say("links", `no such page: ${link}`);
    else if (anchor && seen[target] && !seen[target].ids.includes(decodeURIComponent(anchor))) say("links", `no such place: ${link}`);
  }
}
if (!options.quarto) {
  await page.setViewportSize({ width: 1440, height: 900 });
  here = pages.find(p => p !== "index.html");
  await page.goto(base + here);
  for (const problem of await keyboard(page).catch(error => [String(error)])) say("keyboard", problem);
}
if (options.shots) {
  mkdirSync(options.shots, { recursive: true });
  for (here of pages) for (const width of [390, 1440]) for (const colorScheme of ["light", "dark"]) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    await page.goto(base + here);
    await page.evaluate(() => document.querySelectorAll("img").forEach(i => i.loading = "eager"));
    await page.waitForLoadState("networkidle");
    await page.screenshot({ path: join(options.shots, `${here.replace(".html", "")}-${width}-${colorScheme}.png`), fullPage: true });
  }
}
await browser.close();
server.close();
// not process.exit(): it would cut off what a pipe has not taken yet
process.exitCode = Object.values(report).some(checks => Object.keys(checks).length) ? 1 : 0;
console.log(JSON.stringify(report, null, 1));
