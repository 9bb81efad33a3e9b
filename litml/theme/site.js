// Comfort only: every page can be read without it. No request leaves the site; results are text nodes, never HTML.
(() => {
  "use strict";
  const root = document.documentElement.dataset.root || "";
  const $ = (query, from = document) => from.querySelector(query);
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // The theme: the system's, until somebody chooses the other one.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const switcher = $(".theme-switch");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const showTheme = () => switcher.setAttribute("aria-pressed", String(isDark()));
  const store = (key, value) => {
    try {
      if (value) localStorage.setItem(key, value); else localStorage.removeItem(key);
    } catch { /* storage is off */ }
  };
  switcher.hidden = false;
  switcher.addEventListener("click", () => {
    const wanted = isDark() ? "light" : "dark";
    const same = (wanted === "dark") === system.matches;
    if (same) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = wanted;
    store("litml-theme", same ? "" : wanted);
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  // Navigation on a small screen.
  const menu = $(".menu"), side = $(".side");
  const narrow = matchMedia("(max-width: 54rem)");
  const openMenu = (open) => {
    side.classList.toggle("open", open);
    menu.setAttribute("aria-expanded", String(open));
  };
  if (side && side.firstElementChild) {
    menu.hidden = false;
    menu.setAttribute("role", "button");
    menu.setAttribute("aria-controls", "nav");
    openMenu(false);
    const toggle = (event) => {
      event.preventDefault();
      openMenu(!side.classList.contains("open"));
      if (side.classList.contains("open")) { side.scrollTop = 0; side.focus({ preventScroll: true }); }
    };
    menu.addEventListener("click", toggle);
    menu.addEventListener("keydown", (event) => { if (event.key === " ") toggle(event); });
    document.addEventListener("click", (event) => {
      if (narrow.matches && !side.contains(event.target) && !menu.contains(event.target)) openMenu(false);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && narrow.matches && side.classList.contains("open")) { openMenu(false); menu.focus(); }
    });
    const here = $("[aria-current]", side);
    if (here && !narrow.matches && here.offsetTop > side.clientHeight - 80) side.scrollTop = here.offsetTop - side.clientHeight / 2;
  }

  // The contents of this page: the part one is reading is marked.
  let mark = () => {}, waiting = false;
  addEventListener("scroll", () => {
    if (!waiting) { waiting = true; requestAnimationFrame(mark); }
  }, { passive: true });
  const followContents = () => {
    mark = () => { waiting = false; };
    const toc = $(".frame > .toc");
    if (!toc) return;
    const label = $("p", toc);
    if (!$("button", label)) {
      const button = make("button", { type: "button", textContent: label.textContent });
      button.setAttribute("aria-expanded", "false");
      label.replaceChildren(button);
      button.addEventListener("click", () => {
        button.setAttribute("aria-expanded", String(toc.classList.toggle("open")));
      });
    }
    const links = new Map(all("a", toc).map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
    const places = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
    let now = null;
    mark = () => {
      waiting = false;
      let found = null;
      for (const place of places) if (place.getBoundingClientRect().top < 120) found = place;
      const link = found && links.get(found.id);
      if (link === now) return;
      if (now) now.classList.remove("now");
      if (link) {
        link.classList.add("now");
        if (getComputedStyle(toc).position === "sticky") toc.scrollTop = link.offsetTop - toc.clientHeight / 2;
      }
      now = link;
    };
    mark();
  };
  followContents();

  // Copying code.
  const addCopying = () => {
    for (const pre of navigator.clipboard ? all("main pre") : []) {
      if (pre.matches(".signature, .holder > pre") || pre.closest(".output") || !pre.textContent.trim()) continue;
      const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
      button.setAttribute("aria-label", "Copy this code");
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(pre.textContent.replace(/\n$/, ""));
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      const holder = make("div", { className: "holder" });
      pre.replaceWith(holder);
      holder.append(pre, button);
    }
  };
  addCopying();

  // Copying the page, as Markdown.
  const twin = $("a[data-copy-page]");
  if (twin && navigator.clipboard && location.protocol.startsWith("http")) {
    const button = make("button", { type: "button", textContent: "Copy as Markdown" });
    button.addEventListener("click", async () => {
      const answer = await fetch(twin.href);
      if (answer.ok) await navigator.clipboard.writeText(await answer.text());
      button.textContent = answer.ok ? "Copied" : "Not found";
      setTimeout(() => { button.textContent = "Copy as Markdown"; }, 1500);
    });
    const item = make("li");
    item.append(button);
    twin.parentElement.after(item);
  }

  // What scrolls sideways can be scrolled with the keyboard, too.
  const reachFormulas = () => {
    for (const one of all("main .formula")) if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
  };
  reachFormulas();

  // A link into something that is folded opens it.
  const unfold = () => {
    let place = null;
    try { place = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { /* no id */ }
    const folded = place && (place.matches("details") ? place : place.closest("details:not([open])"));
    if (folded) { folded.open = true; place.scrollIntoView(); }
  };
  addEventListener("hashchange", unfold);
  unfold();

  // Frames of outputs tell how high they are; nothing else is taken from them.
  addEventListener("message", (event) => {
    const height = event.data && Number(event.data.litmlHeight);
    if (!(height > 0)) return;
    for (const frame of all("iframe")) {
      if (frame.contentWindow === event.source) frame.style.height = `${Math.min(height, 4000)}px`;
    }
  });

  // Versions: go to the same page of another one, if it is there.
  const badge = $(".version[data-version]");
  const versions = window.litmlVersions;
  if (badge && Array.isArray(versions) && versions.length > 1) {
    const page = location.pathname.split("/").slice(-1 - (root.match(/\.\.\//g) || []).length).join("/");
    const select = make("select");
    select.setAttribute("aria-label", "Version of the documentation");
    for (const version of versions) {
      const option = make("option", { value: version.path, textContent: version.title });
      option.selected = version.path === badge.dataset.version;
      select.append(option);
    }
    select.addEventListener("change", async () => {
      const base = `${root}../${select.value}/`;
      let target = base + (page || "index.html");
      if (location.protocol.startsWith("http")) {
        try {
          if (!(await fetch(target, { method: "HEAD" })).ok) target = `${base}index.html`;
        } catch { /* no connection: the page says so itself */ }
      }
      location.href = target;
    });
    badge.replaceChildren(select);
  }

  // Search. See the chapter on it for the form of the files, and for what is worth how much.
  const SHORTEST = 2, CHUNK = 256, CANDIDATES = 300, LIMIT = 25;
  const dialog = $("dialog.search"), input = $("#query", dialog), list = $("#results", dialog), state = $(".search-state", dialog);
  const loaded = new Map(), arrived = new Map();
  window.litmlData = (name, data) => arrived.set(name, data);
  const load = (name) => {
    if (!loaded.has(name)) {
      loaded.set(name, new Promise((resolve) => {
        const script = make("script", { src: `${root}_search/${name}.js` });
        script.onload = () => { script.remove(); resolve(arrived.get(name)); };
        script.onerror = () => { script.remove(); resolve(null); };
        document.head.append(script);
      }));
    }
    return loaded.get(name);
  };
  const shard = (word) => {
    const start = [...word].slice(0, 2);
    if (/^[a-z0-9_]{2}$/.test(start.join(""))) return start.join("");
    return start.map((one) => one.codePointAt(0).toString(16)).join("-");
  };
  const match = async (word) => {
    const found = new Map();
    const words = (await load(`w-${shard(word)}`)) || {};
    for (const [name, postings] of Object.entries(words)) {
      if (!name.startsWith(word)) continue;
      let number = 0;
      for (let i = 0; i < postings.length; i += 2) {
        number += postings[i];
        found.set(number, Math.max(found.get(number) || 0, postings[i + 1]));
      }
    }
    return found;
  };
  const rank = (title, isSymbol, wanted, weight) => {
    const name = title.toLowerCase(), last = name.slice(name.lastIndexOf(".") + 1);
    let worth = 3;
    if (wanted === name || wanted === last) worth = 100;
    else if (name.startsWith(wanted) || last.startsWith(wanted)) worth = 40;
    else if (name.includes(wanted)) worth = 20;
    return (worth + 15 * isSymbol) * 1000 + Math.min(weight, 999);
  };
  const find = async (query) => {
    const words = (query.match(/[\p{L}\p{N}_]+/gu) || []).map((word) => word.toLowerCase()).filter((word) => [...word].length >= SHORTEST);
    if (!words.length) return null;
    let found = null;
    for (const word of words) {
      const hits = await match(word);
      if (found) for (const [n, weight] of hits) if (found.has(n)) hits.set(n, weight + found.get(n)); else hits.delete(n);
      found = hits;
    }
    const order = [...found].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, CANDIDATES);
    const wanted = query.trim().toLowerCase();
    const ranked = [];
    for (const [n, weight] of order) {
      const chunk = await load(`s-${Math.floor(n / CHUNK)}`);
      if (!chunk) continue;
      const [url, title, place, text, isSymbol] = chunk[n % CHUNK];
      ranked.push({ url, title, place, text, isSymbol, n, worth: rank(title, isSymbol, wanted, weight) });
    }
    return ranked.sort((a, b) => b.worth - a.worth || a.title.length - b.title.length || a.n - b.n).slice(0, LIMIT);
  };
  const item = (one) => {
    const link = make("a", { href: root + one.url },
      make("span", { className: "found", textContent: one.title }),
      make("span", { className: "where", textContent: one.place === one.title ? "" : one.place }),
      make("span", { className: "text", textContent: one.text }));
    return make("li", { className: one.isSymbol ? "symbol" : "" }, link);
  };
  let asked = 0;
  const ask = async () => {
    const mine = ++asked, query = input.value, results = await find(query);
    if (mine !== asked) return;
    list.dataset.query = query; // what these are the results of
    list.replaceChildren(...(results || []).map(item));
    state.textContent = results === null ? "" : results.length === 0 ? "Nothing found" : results.length === 1 ? "1 result" : results.length === LIMIT ? `The ${LIMIT} best results` : `${results.length} results`;
  };
  const open = () => { if (!dialog.open) { dialog.showModal(); input.select(); } };
  const opener = $(".search-open");
  opener.hidden = false;
  opener.addEventListener("click", open);
  input.addEventListener("input", ask);
  $("form", dialog).addEventListener("submit", (event) => {
    const first = $("a", list);
    if (first && event.submitter === null) { event.preventDefault(); first.click(); }
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.preventDefault(); dialog.close(); input.blur(); } // which else only clears the field
    if (event.key === "Enter") { event.preventDefault(); const first = $("a", list); if (first) first.click(); }
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const links = all("a", list), at = links.indexOf(document.activeElement);
    const next = event.key === "ArrowDown" ? links[at + 1] : at > 0 ? links[at - 1] : input;
    if (next) { event.preventDefault(); next.focus(); }
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("#results a")) dialog.close();
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest && event.target.closest("input, textarea, select, [contenteditable]");
    const combination = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k";
    if (combination || (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey)) {
      event.preventDefault();
      open();
    }
  });

  // A glance at what a name stands for, before one follows its link.
  const home = new URL(root || ".", location.href).pathname;
  const tip = make("div", { className: "glance", id: "glance", hidden: true });
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);
  let glanced = null, timer = 0;
  const hide = () => {
    clearTimeout(timer);
    tip.hidden = true;
    if (glanced) glanced.removeAttribute("aria-describedby");
    glanced = null;
  };
  const glance = async (link) => {
    if (link.origin !== location.origin || !link.pathname.startsWith(home) || !link.hash) return;
    const name = link.pathname.slice(home.length).replace(/\.html$/, "");
    const known = await load(`g/${name}`), found = known && known[decodeURIComponent(link.hash.slice(1))];
    if (!found || glanced !== link) return;
    tip.replaceChildren(make("code", { textContent: found[0] }), make("p", { textContent: found[1] }));
    tip.hidden = false;
    link.setAttribute("aria-describedby", "glance");
    const box = link.getBoundingClientRect(), wide = document.documentElement.clientWidth;
    tip.style.left = `${scrollX + Math.max(8, Math.min(box.left, wide - tip.offsetWidth - 8))}px`;
    const above = box.bottom + tip.offsetHeight + 8 > innerHeight && box.top > tip.offsetHeight + 70;
    tip.style.top = `${scrollY + (above ? box.top - tip.offsetHeight - 6 : box.bottom + 6)}px`;
  };
  const want = (link, delay) => {
    clearTimeout(timer);
    timer = setTimeout(() => { hide(); glanced = link; glance(link); }, delay);
  };
  const leave = () => { clearTimeout(timer); timer = setTimeout(hide, 250); };
  tip.addEventListener("pointerenter", () => clearTimeout(timer));
  tip.addEventListener("pointerleave", leave);
  const dressed = new WeakSet();
  const watchNames = () => all("main a.symbol").filter((link) => !dressed.has(link)).forEach((link) => {
    dressed.add(link);
    link.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") want(link, 200); });
    link.addEventListener("pointerleave", leave);
    link.addEventListener("focus", () => { if (link.matches(":focus-visible")) want(link, 0); });
    link.addEventListener("blur", hide);
  });
  watchNames();
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // A page that was not found can search for what it was asked for.
  if (document.body.classList.contains("missing")) {
    input.value = decodeURIComponent(location.pathname).split("/").pop().replace(/\.html$/, "");
    ask();
  }

  // Parts of a page that were put in after a save, by the preview.
  document.addEventListener("litml:renewed", () => {
    hide();
    followContents();
    addCopying();
    reachFormulas();
    watchNames();
  });
})();
