"""The page's frame, its style and its script: one column on a phone, light or dark as the reader's device is set.

Without the script the page says the same; pictures are then not enlarged, and a phone's hint stands above every table.
"""

import string

PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header><h1>$title</h1>
<p class="note">$subtitle</p></header>
<main>
$body
</main>
<dialog><figure><button type="button" class="shown" aria-label="Close"><img alt=""></button>
<figcaption></figcaption></figure>
<p class="steps"><button type="button" data-step="-1" aria-label="The picture before">←</button>
<button type="button" data-step="1" aria-label="The next picture">→</button>
<button type="button" class="close">Close</button></p></dialog>
<script>$script</script>
</body>
</html>
""")

STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --card: #f2f1ee; --ink: #16161a; --soft: #5d5b57;
  --line: #dcdad4; --s0: #2a78d6; --s1: #e2712b; --s2: #1c8f6d; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #17171a; --card: #232327; --ink: #ececea; --soft: #a9a7a1;
  --line: #3b3b40; --s0: #5b9df0; --s1: #ee8c4e; --s2: #3fb890; --warn: #e5b04c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1360px; padding: 16px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .4em 0 .2em; }
h2 { font-size: 1.25rem; margin: 2.2em 0 .2em; padding-top: .6em; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .3em; }
p { margin: .3em 0 .8em; max-width: 75ch; }
.note, .how, .tile small, .caption { color: var(--soft); }
a { color: inherit; }
.missing { color: var(--warn); overflow-wrap: anywhere; }
code, pre { font: .86em/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.command code { display: block; background: var(--card); border-radius: 6px; padding: 6px 10px;
  white-space: pre-wrap; }
.command code span { display: inline-block; max-width: 100%; word-break: break-all; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 1em 0; }
.tile { background: var(--card); border-radius: 10px; padding: 12px 14px; }
.tile span { display: block; font-size: .9rem; }
.tile strong { display: block; font-size: 1.9rem; line-height: 1.25; font-weight: 650; }
.tile small { display: block; font-size: .8rem; line-height: 1.35; }
.scroll { overflow-x: auto; margin: .6em 0; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.facts td, .facts th { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; white-space: nowrap; }
.facts .number { text-align: right; }
.facts .wrap { white-space: normal; min-width: 16em; overflow-wrap: anywhere; }
.pictures { table-layout: fixed; width: 100%; min-width: calc(var(--columns) * 98px);
  max-width: calc(var(--columns) * 190px); }
.pictures th { font-size: .8rem; font-weight: 600; padding: 2px; text-align: center; }
.pictures td { padding: 2px 2px 6px; vertical-align: top; text-align: center; line-height: 1.25; }
.picture { display: block; width: 100%; padding: 0; border: 0; background: none; cursor: zoom-in; }
.picture img { display: block; width: 100%; height: auto; max-height: 220px; object-fit: contain; border-radius: 4px; }
.pictures th:first-child, .pictures td:first-child { position: sticky; left: 0; background: var(--paper); z-index: 1;
  padding-right: 6px; }
.caption, .classes { display: block; font-size: .74rem; margin: 2px auto 0; overflow-wrap: anywhere; }
.classes span { display: inline-block; margin: 0 .25em; }
@media (max-width: 640px) { .pictures.large { min-width: calc(var(--columns) * 80px); }
  .facts { font-size: .86rem; } .facts td, .facts th { padding-right: 10px; }
  .facts td:first-child { white-space: normal; } }
dialog { max-width: 96vw; max-height: 96vh; padding: 12px; border: 1px solid var(--line); border-radius: 10px;
  background: var(--paper); color: var(--ink); text-align: center; }
dialog::backdrop { background: rgb(0 0 0 / .7); }
figure { margin: 0; }
.shown { padding: 0; border: 0; background: none; cursor: zoom-out; }
.shown img { display: block; width: min(86vw, 760px); height: auto; max-height: 66vh; object-fit: contain; }
figcaption { margin-top: 8px; overflow-wrap: anywhere; }
figcaption .classes { font-size: 1rem; }
.steps { margin: 8px auto 0; }
.steps button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: 4px 14px; min-height: 36px; }
.hint { display: none; margin: 0; font-size: .8rem; color: var(--soft); }
@media (max-width: 640px) { .hint { display: block; } }
.scripted .hint { display: block; } .hint[hidden] { display: none; }
.side > * { min-width: 0; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 12px 32px; }
.side.wide { grid-template-columns: repeat(auto-fit, minmax(min(560px, 100%), 1fr)); gap: 0 24px; }
.chart { width: 100%; height: auto; display: block; } .matrix { display: block; }
.matrix image { image-rendering: pixelated; }
.chart text, .matrix text { fill: currentColor; } .chart text { font-size: 11px; } .matrix text.light { fill: #fff; }
.grid { stroke: var(--line); } .frame { fill: none; stroke: var(--line); }
polyline { fill: none; stroke-linejoin: round; } .raw { stroke-width: 1; opacity: .3; } .smooth { stroke-width: 2; }
polyline.s0 { stroke: var(--s0); } polyline.s1 { stroke: var(--s1); } polyline.s2 { stroke: var(--s2); }
b.s0, i.s0 { background: var(--s0); } b.s1, i.s1 { background: var(--s1); } b.s2, i.s2 { background: var(--s2); }
.legend span { display: inline-block; margin-right: 1.2em; font-size: .88rem; }
i { display: inline-block; width: .85em; height: .85em; border-radius: 3px; margin-right: .4em;
  vertical-align: -.06em; border: 1px solid rgb(128 128 128 / .5); }
i[class] { border: 0; }
.bars { max-width: 760px; } .tall { max-height: 80vh; overflow-y: auto; }
.group { display: grid; grid-template-columns: minmax(70px, 8.5em) 1fr; gap: 8px; align-items: center;
  margin-bottom: 7px; font-size: .86rem; }
.name { text-align: right; overflow-wrap: anywhere; line-height: 1.2; }
.bar { display: flex; align-items: center; gap: 6px; height: 15px; padding-right: 46px; }
.bar b { height: 10px; border-radius: 0 4px 4px 0; min-width: 1px; flex-shrink: 0; }
.bar span { font-size: .76rem; line-height: 1; font-variant-numeric: tabular-nums; }
details { margin: .4em 0; } summary { cursor: pointer; }
pre { background: var(--card); border-radius: 8px; padding: 10px 12px; overflow-x: auto; margin: .4em 0 1em; }
"""

SCRIPT = """
const dialog = document.querySelector("dialog"), shown = dialog.querySelector("img");
let row = [], place = 0;
function show(next) {
  place = (next + row.length) % row.length;
  const picture = row[place].querySelector("img"), named = row[place].parentElement.querySelector(".classes");
  shown.src = picture.src;
  shown.alt = picture.alt;
  dialog.setAttribute("aria-label", picture.alt);
  dialog.querySelector("figcaption").replaceChildren(picture.alt, ...(named ? [named.cloneNode(true)] : []));
}
document.addEventListener("click", event => {
  const picture = event.target.closest(".picture"), step = event.target.closest("[data-step]");
  if (picture) {
    row = [...picture.closest("tr").querySelectorAll(".picture")];
    show(row.indexOf(picture));
    dialog.showModal();
  } else if (step) {
    show(place + Number(step.dataset.step));
  } else if (event.target === dialog || event.target.closest(".shown, .close")) {
    dialog.close();
  }
});
dialog.addEventListener("keydown", event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (step) { event.preventDefault(); show(place + step); }
});
dialog.addEventListener("close", () => row[place].focus());
function hint() {
  for (const box of document.querySelectorAll(".scroll")) {
    const fits = box.scrollWidth <= box.clientWidth + 1;
    box.previousElementSibling.hidden = fits;
    box.tabIndex = fits ? -1 : 0;
  }
}
document.documentElement.classList.add("scripted");
addEventListener("resize", hint);
hint();
"""
