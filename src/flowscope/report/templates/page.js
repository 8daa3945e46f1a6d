
"use strict";
(() => {
  const island = (name) => {
    const element = document.getElementById(name);
    return element ? JSON.parse(element.textContent) : null;
  };
  const shown = (value, digits = 3) => {
    if (typeof value === "string") return value;
    if (value === null || !Number.isFinite(value)) return "undefined";
    const size = Math.abs(value);
    const words = value === 0 || (size >= 1e-4 && size < 1e6)
      ? value.toFixed(value === 0 ? 0 : Math.max(0, Math.min(12, digits - 1 - Math.floor(Math.log10(size)))))
      : value.toExponential(digits - 1);
    return words.replaceAll("-", "\u2212");
  };

  // A share of uniform steps before the boundary t: shift s = t (1 - f)/(f (1 - t)); diffusers calls 1/s the shift.
  const shift = island("shift-data");
  const share = document.getElementById("share");
  if (shift && share) {
    const out = (name) => document.getElementById("share-" + name);
    const update = () => {
      const f = Number(share.value) / 100;
      const s = (shift.t * (1 - f)) / (f * (1 - shift.t));
      out("value").textContent = share.value + " %";
      out("s").textContent = shown(s);
      out("diffusers").textContent = shown(1 / s);
      out("steps").textContent = Math.min(shift.steps, Math.ceil(shift.steps * f - 1e-9)) + " of " + shift.steps;
      share.setAttribute("aria-valuetext", share.value + " % of the steps, shift " + shown(s));
    };
    share.addEventListener("input", update);
    update();
  }

  // The curve at a chosen time.
  const curve = island("curve-data");
  const moment = document.getElementById("moment");
  if (curve && moment) {
    const update = () => {
      const k = Number(moment.value);
      for (const [name, values] of Object.entries(curve.columns)) {
        const error = (curve.errors[name] || [])[k];
        const tail = error ? " \u00b1 " + shown(error, 2) : "";
        document.getElementById("moment-" + name).textContent = shown(values[k], 4) + tail;
      }
      const t = curve.columns.t[k];
      const stage = curve.half === null ? "" : t < curve.half ? "navigation"
        : curve.saturation === null || t < curve.saturation ? "transition" : "refinement";
      document.getElementById("moment-stage").textContent = stage || "undefined";
      moment.setAttribute("aria-valuetext", "t = " + shown(t) + (stage ? ", " + stage : ""));
    };
    moment.addEventListener("input", update);
    update();
  }

  // Tables that sort: a button in every heading; cells without a key stay last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
        const rows = [...body.rows].sort((a, b) => {
          const x = a.cells[column].dataset.key, y = b.cells[column].dataset.key;
          if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
          const numeric = a.cells[column].classList.contains("number");
          return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true }));
        });
        body.append(...rows);
      });
    });
  }

  // Frames that scroll say so, and figures that are shown smaller than they are open at full size.
  const frames = [...document.querySelectorAll("[data-hint]")].map((hint) => [hint, hint.nextElementSibling]);
  const figures = [...document.querySelectorAll("figure > picture")].map((picture) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button";
    button.addEventListener("click", () => {
      picture.classList.toggle("full");
      fit();
    });
    picture.after(button);
    return [picture, picture.querySelector("img"), button];
  });
  const fit = () => {
    for (const [hint, frame] of frames) hint.hidden = frame.scrollWidth <= frame.clientWidth;
    for (const [picture, image, button] of figures) {
      const full = picture.classList.contains("full");
      button.hidden = !full && image.naturalWidth <= 1.2 * image.clientWidth;
      button.textContent = full ? "Fit to the page" : "Full size";
    }
  };
  addEventListener("resize", fit);
  addEventListener("load", fit);
  fit();

  for (const element of document.querySelectorAll(".control[hidden]")) element.hidden = false;
})();
