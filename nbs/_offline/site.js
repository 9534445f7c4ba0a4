// What the pages do: equations, colours, boxes that scroll, the place in the contents, and the search.
"use strict";

// ---------------------------------------------------------------- equations
if (window.katex) {
  for (const e of document.querySelectorAll("span.math")) {
    katex.render(e.textContent, e, { displayMode: e.classList.contains("display"), throwOnError: false });
  }
}

// ---------------------------------------------------------------- light and dark
const theme = document.querySelector("#book-theme"), system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
const showTheme = () => theme.setAttribute("aria-pressed", dark());
theme.onclick = () => {
  const choice = dark() ? "light" : "dark";
  document.documentElement.dataset.theme = choice;
  try { localStorage.setItem("theme", choice); } catch { /* no storage: for this page only */ }
  showTheme();
};
system.onchange = showTheme;
showTheme();

// ---------------------------------------------------------------- boxes that scroll
// A box that holds more than it shows can be reached, and so be scrolled, with the keyboard; the others are no stops.
const boxes = document.querySelectorAll("main pre, main .scroll, main .math.display, main .equation > p:first-child");
const stops = () => boxes.forEach(b => {
  if (b.scrollWidth > b.clientWidth) b.tabIndex = 0; else b.removeAttribute("tabindex");
});
addEventListener("resize", stops);
addEventListener("load", stops);
stops();

// ---------------------------------------------------------------- the place in the contents
const places = new Map([...document.querySelectorAll(".toc nav a[href^='#']")].map(a => [decodeURIComponent(a.hash.slice(1)), a]));
const watch = new IntersectionObserver(seen => {
  const top = seen.filter(s => s.isIntersecting)[0];
  if (!top) return;
  places.forEach((a, id) => { if (id === top.target.id) a.setAttribute("aria-current", "true"); else a.removeAttribute("aria-current"); });
}, { rootMargin: "0px 0px -70% 0px" });
places.forEach((_, id) => watch.observe(document.getElementById(id)));
document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest" });

// ---------------------------------------------------------------- search
// The index is built in the browser when the search is first used, so that a page opened from a disk needs no server.
const box = document.querySelector("#book-search"), results = document.querySelector("#book-results"), found = document.querySelector("#book-found");
const script = src => new Promise((done, fail) => {
  document.head.append(Object.assign(document.createElement("script"), { src, onload: done, onerror: fail }));
});
let loading;
const index = () => loading ??= Promise.all(["minisearch.js", "search.js"].map(script)).then(() => {
  const search = new MiniSearch({
    idField: "url", fields: ["title", "text"], storeFields: ["title", "chapter", "text"],
    searchOptions: { boost: { title: 3 }, prefix: true, fuzzy: word => word.length > 5 ? 0.15 : false, combineWith: "AND" },
  });
  search.addAll(window.SECTIONS);
  return search;
});

function excerpt(text, words) {
  // the words around the first match, with every match marked
  const pattern = new RegExp(`(${words.map(w => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "iu");
  const at = Math.max(0, text.search(pattern) - 60);
  const start = at ? text.indexOf(" ", at) + 1 : 0;
  const parts = (start ? "… " : "").concat(text.slice(start, start + 180)).split(new RegExp(pattern, "giu"));
  return parts.map((part, i) => i % 2 ? Object.assign(document.createElement("mark"), { textContent: part }) : part);
}

function entry(hit) {
  const item = document.createElement("li"), link = document.createElement("a"), chapter = document.createElement("small");
  link.href = hit.id;
  chapter.textContent = hit.title === hit.chapter ? "" : hit.chapter;
  const text = document.createElement("span");
  text.append(...excerpt(hit.text, hit.terms));
  link.append(Object.assign(document.createElement("b"), { textContent: hit.title }), chapter, text);
  item.append(link);
  return item;
}

const close = () => { results.hidden = true; results.replaceChildren(); found.textContent = ""; };

async function look() {
  const query = box.value.trim();
  if (!query) return close();
  const hits = (await index()).search(query);
  if (query !== box.value.trim()) return;     // typed on meanwhile
  results.replaceChildren(...hits.slice(0, 15).map(entry));
  results.hidden = !hits.length;
  found.textContent = hits.length === 1 ? "1 section found" : hits.length ? `${hits.length} sections found` : "Nothing found";
}

box.oninput = look;
box.onfocus = index;
document.querySelector("search").onkeydown = event => {
  const links = [...results.querySelectorAll("a")], at = links.indexOf(document.activeElement);
  if (event.key === "Escape") { close(); box.focus(); }
  else if (event.key === "ArrowDown") links[Math.min(at + 1, links.length - 1)]?.focus();
  else if (event.key === "ArrowUp") (at > 0 ? links[at - 1] : box).focus();
  else if (event.key === "Enter" && at < 0) links[0]?.click();
  else return;
  if (event.key !== "Escape") event.preventDefault();
};
results.onclick = close;
addEventListener("click", event => { if (!event.target.closest("search")) close(); });
