"use strict";
// What the scripts of all pages are made of: elements whose text is set as text (append of strings), so that nothing of a stranger's is ever
// read as mark-up. Stands before a page's own script.

const $ = (id) => document.getElementById(id);
const NAMESPACE = "http://www.w3.org/2000/svg";
const STEERING = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

function make(name, given, ...inner) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given || {})) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...inner);
  return made;
}

function drawn(name, given, ...inner) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
  made.append(...inner);
  return made;
}

const inert = (text) => String(text).replace(STEERING, "?");
const word = (text) => make("bdi", null, inert(text));

function table(columns, rows, label) {
  const head = make("tr", null, ...columns.map((each) => make("th", { scope: "col" }, each)));
  const lines = rows.map((row) => make("tr", null, ...row.map((cell, n) => make(n ? "td" : "th", n ? null : { scope: "row" }, cell))));
  const inside = make("table", { "aria-label": label }, make("thead", null, head), make("tbody", null, ...lines));
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, inside);
}

const soft = (...inner) => make("p", { class: "soft" }, ...inner);
