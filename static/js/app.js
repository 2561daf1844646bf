// Everything here is a convenience: each page works without it.
"use strict";

const root = document.documentElement;
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

// ---- theme: a cookie, so that the server draws the page in the chosen theme from the first byte
function showTheme() {
  const chosen = root.dataset.theme || "system";
  $$("[data-theme-choice]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.themeChoice === chosen)));
}

function chooseTheme(name) {
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  const age = name === "system" ? 0 : 31536000;
  document.cookie = `theme=${name}; path=/; max-age=${age}; samesite=lax`;
  showTheme();
}

// ---- copying
async function copy(button) {
  const source = $(button.dataset.copy);
  const text = source.value ?? source.textContent;
  try {
    await navigator.clipboard.writeText(text.trim());
  } catch {
    selectText(source);
    document.execCommand("copy"); // pages on plain http have no clipboard API
  }
  const label = $("span", button) || button;
  const before = label.textContent;
  label.textContent = "Copied";
  setTimeout(() => (label.textContent = before), 1500);
}

function selectText(node) {
  const range = document.createRange();
  range.selectNodeContents(node);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

// ---- long lists of checkboxes: filter what is shown, choose what is shown
function filterRows(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const list = $(input.dataset.filter);
  let shown = 0;
  for (const row of list.children) {
    const text = (row.dataset.text ||= row.textContent.toLowerCase().replace(/\s+/g, " "));
    row.hidden = !words.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  const note = $("[data-shown]");
  if (note) note.textContent = words.length ? `${shown} shown` : "";
}

function chooseShown(button) {
  const list = $(button.dataset.choose);
  for (const row of list.children) if (!row.hidden) $("input", row).checked = button.value === "all";
  countChosen(list);
}

function countChosen(list) {
  const note = $("[data-chosen]");
  if (note) note.textContent = `${$$("input:checked", list).length} of ${list.children.length} chosen`;
}

// ---- forms
function proposeSlug(input) {
  const slug = $("[data-slug]", input.form);
  if (!slug || slug.dataset.touched) return;
  const plain = input.value.normalize("NFKD").replace(/[^\x00-\x7f]/g, "").toLowerCase();
  slug.value = plain.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63).replace(/-+$/, "");
}

function prettyJson(button) {
  const area = $(button.dataset.pretty);
  try {
    area.value = JSON.stringify(JSON.parse(area.value), null, 2);
    area.setCustomValidity("");
  } catch (error) {
    area.setCustomValidity(`This is not JSON: ${error.message}`);
    area.reportValidity();
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button, a");
  if (!button) return;
  if (button.dataset.themeChoice) chooseTheme(button.dataset.themeChoice);
  else if (button.dataset.copy) copy(button);
  else if (button.dataset.choose) chooseShown(button);
  else if (button.dataset.pretty) prettyJson(button);
});

document.addEventListener("input", (event) => {
  const field = event.target;
  if (field.dataset.filter) filterRows(field);
  else if (field.dataset.slug !== undefined) field.dataset.touched = "yes";
  else if (field.dataset.proposes !== undefined) proposeSlug(field);
  else if (field.setCustomValidity && field.matches("textarea.code")) field.setCustomValidity("");
});

document.addEventListener("change", (event) => {
  const list = event.target.closest("[data-countable]");
  if (list) countChosen(list);
  if (event.target.dataset.submits !== undefined) event.target.form.requestSubmit();
});

// An open menu closes when the focus leaves it or on Escape, as people expect of a menu.
document.addEventListener("focusout", (event) => {
  const menu = event.target.closest("details.menu");
  if (menu && event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
});
document.addEventListener("pointerdown", (event) => {
  $$("details.menu[open]").forEach((menu) => menu.contains(event.target) || (menu.open = false));
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  $$("details.menu[open]").forEach((menu) => {
    menu.open = false;
    $("summary", menu).focus();
  });
});

// A log draws itself anew every second or two; whoever reads further up in it is left alone.
document.addEventListener("htmx:beforeSwap", (event) => {
  const log = $(".log", event.target);
  if (log && log.scrollTop < -24) event.detail.shouldSwap = false;
});

// On a narrow screen the current tab may be out of sight.
const tab = $(".tabs [aria-current]");
if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - 24;

showTheme();
$$("[data-countable]").forEach(countChosen);
