"use strict";
(function () {
  const svg = document.documentElement, NS = svg.namespaceURI;
  if (svg.localName !== "svg") return;
  const one = id => document.getElementById(id);
  const CHARACTER = 6.93, EDGE = 16, ROUNDING = 3e-8;
  const detail = one("detail"), still = detail.textContent;
  const frames = Array.from(one("frames").children, g => {
    const rect = g.querySelector("rect");
    const part = name => Number(g.getAttribute(name)) / 1e8;
    const title = g.querySelector("title").textContent;
    const name = title.split("\n")[0], y = Number(rect.getAttribute("y"));
    return { g, rect, text: g.querySelector("text"), title, name, x: part("data-x"), w: part("data-w"), y };
  });
  let width = 1200, from = { x: 0, w: 1, y: -1 };

  function label(frame, w) {
    const letters = Math.floor((w - 6) / CHARACTER);
    if (letters < 3) { if (frame.text) frame.text.textContent = ""; return; }
    if (!frame.text) {
      frame.text = document.createElementNS(NS, "text");
      frame.text.setAttribute("y", frame.y + 13);
      frame.g.appendChild(frame.text);
    }
    const all = Array.from(frame.name);
    frame.text.textContent = all.length <= letters ? frame.name : all.slice(0, letters - 1).join("") + "\u2026";
  }

  function draw() {
    const room = width - 2 * EDGE, slack = ROUNDING / from.w;
    for (const frame of frames) {
      const past = frame.y < from.y && frame.x <= from.x + ROUNDING && frame.x + frame.w >= from.x + from.w - ROUNDING;
      const x = past ? 0 : (frame.x - from.x) / from.w, w = past ? 1 : frame.w / from.w;
      const shown = past || (frame.y >= from.y && x >= -slack && x + w <= 1 + slack && w * room >= 0.2);
      frame.g.style.display = shown ? "" : "none";
      frame.g.classList.toggle("past", past);
      if (!shown) continue;
      frame.rect.setAttribute("x", EDGE + x * room);
      frame.rect.setAttribute("width", Math.max(w * room - 0.6, 0.2));
      label(frame, w * room);
      if (frame.text) frame.text.setAttribute("x", EDGE + x * room + 4);
    }
  }

  function fit() {
    width = Math.max(480, svg.clientWidth || window.innerWidth || 1200);
    svg.setAttribute("viewBox", "0 0 " + width + " " + svg.getAttribute("height"));
    one("page").setAttribute("width", width);
    place();
    draw();
  }

  function zoom(frame) { from = frame || { x: 0, w: 1, y: -1 }; draw(); }

  const box = document.createElementNS(NS, "foreignObject");
  const input = document.createElementNS("http://www.w3.org/1999/xhtml", "input");
  input.setAttribute("placeholder", "Search  ( / )");
  input.setAttribute("aria-label", "Search for functions, a regular expression");
  input.setAttribute("style", "box-sizing:border-box;width:100%;height:28px;padding:0 10px;border:1px solid var(--line);border-radius:14px;"
    + "background:transparent;color:var(--ink);font:13px system-ui,sans-serif");
  box.appendChild(input);
  box.setAttribute("width", 220); box.setAttribute("height", 32); box.setAttribute("y", 12);
  svg.appendChild(box);
  function place() { box.setAttribute("x", width - 220 - EDGE); }

  function search(what) {
    let test = () => false;
    if (what) {
      try { const expression = new RegExp(what, "i"); test = name => expression.test(name); }
      catch (_) { const plain = what.toLowerCase(); test = name => name.toLowerCase().includes(plain); }
    }
    let sum = 0, end = -1;
    for (const frame of frames) {
      const hit = test(frame.name);
      frame.g.classList.toggle("hit", hit);
      if (hit && frame.x >= end - ROUNDING) { sum += frame.w; end = frame.x + frame.w; }
    }
    detail.textContent = what ? "\u201c" + what + "\u201d: " + (100 * Math.min(sum, 1)).toFixed(2) + " % of the whole" : still;
  }

  for (const frame of frames) {
    frame.g.addEventListener("click", () => zoom(frame));
    frame.g.addEventListener("mouseenter", () => { detail.textContent = frame.title.replace("\n", "  \u00b7  "); });
    frame.g.addEventListener("mouseleave", () => { if (input.value) search(input.value); else detail.textContent = still; });
  }
  input.addEventListener("input", () => search(input.value));
  window.addEventListener("keydown", event => {
    if (event.key === "Escape") { input.value = ""; input.blur(); search(""); zoom(null); }
    else if (event.key === "/" && document.activeElement !== input) { event.preventDefault(); input.focus(); }
  });
  window.addEventListener("resize", fit);
  svg.setAttribute("width", "100%");
  fit();
})();
