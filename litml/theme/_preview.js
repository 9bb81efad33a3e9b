// Only in `litml preview`: keeps an open page up to date. It runs before the other scripts and sees the page as it was sent.
(() => {
  "use strict";
  const own = document.currentScript;
  const news = new URL(`events?page=${encodeURIComponent(own.dataset.page)}`, own.src);
  const $ = (query, from) => from.querySelector(query);
  const scripts = (from) => [...from.querySelectorAll("script[src]:not([data-key])")].map((one) => one.getAttribute("src")).join();
  const sheets = (from) => [...from.querySelectorAll("link[rel=stylesheet]")];
  let was = document.cloneNode(true), key = own.dataset.key;
  document.documentElement.style.overflowAnchor = "none"; // places are kept below

  // What a reader has folded or unfolded stays so; what the author has, does not.
  const folds = (nodes) => nodes.flatMap((one) => (one.nodeType !== 1 ? [] : one.matches("details") ? [one] : []).concat(one.nodeType === 1 ? [...one.querySelectorAll("details")] : []));
  const nameFold = (one, all) => {
    const name = `${(one.closest("[id]") || {}).id} ${($("summary", one) || {}).textContent}`;
    return `${name} ${(all[name] = (all[name] || 0) + 1)}`;
  };
  const carryFolds = (old, before, fresh) => {
    const sent = folds(before), seen = {}, next = {}, turned = new Map();
    folds(old).forEach((one, i) => {
      const name = nameFold(one, seen);
      if (sent[i] && sent[i].open !== one.open) turned.set(name, one.open);
    });
    for (const one of folds(fresh)) {
      const name = nameFold(one, next);
      if (turned.has(name)) one.open = turned.get(name);
    }
  };

  // What had the focus is found by what it is.
  const nameFocus = (one) => [one.localName, one.id || one.getAttribute("href") || one.textContent].join(" ");
  const findFocus = (wanted) => {
    for (const one of document.querySelectorAll("main a, main button, main summary, main pre, main [tabindex]")) {
      if (nameFocus(one) === wanted) return one;
    }
    return null;
  };

  // Only what is different from what was sent last is replaced.
  const patch = (live, before, after) => {
    const old = [...live.childNodes], sent = [...before.childNodes], next = [...after.childNodes];
    if (old.length !== sent.length) return live.replaceChildren(...next);
    let start = 0, end = 0;
    const least = Math.min(sent.length, next.length);
    while (start < least && sent[start].isEqualNode(next[start])) start++;
    while (end < least - start && sent[sent.length - 1 - end].isEqualNode(next[next.length - 1 - end])) end++;
    const gone = old.slice(start, old.length - end), told = sent.slice(start, sent.length - end), come = next.slice(start, next.length - end);
    if (gone.length === come.length) {
      gone.forEach((one, i) => {
        if (told[i].isEqualNode(come[i])) return;
        if (one.localName === "article" && come[i].localName === "article") return patch(one, told[i], come[i]);
        carryFolds([one], [told[i]], [come[i]]);
        one.replaceWith(come[i]);
      });
    } else {
      carryFolds(gone, told, come);
      const place = old[old.length - end] || null;
      gone.forEach((one) => one.remove());
      come.forEach((one) => live.insertBefore(one, place));
    }
  };

  // The first thing on the screen stays where it is.
  const parts = () => [...document.querySelectorAll("main article > *")];
  const keepPlace = (change) => {
    const before = parts(), bar = $(".bar", document), high = bar ? bar.offsetHeight : 0;
    const at = before.findIndex((one) => one.getBoundingClientRect().bottom > high);
    const top = at < 0 ? 0 : before[at].getBoundingClientRect().top;
    change();
    if (at < 0 || scrollY === 0) return;
    const after = parts(), one = before[at].isConnected ? before[at] : after[Math.min(at, after.length - 1)];
    if (one) scrollBy({ top: one.getBoundingClientRect().top - top, behavior: "instant" });
  };

  const renew = (next) => {
    const fresh = next.cloneNode(true);
    const same = (query) => ($(query, was) || {}).outerHTML === ($(query, next) || {}).outerHTML;
    const here = $("main", document), there = $("main", next);
    const isStub = (from) => !$(".frame", from);
    if (scripts(was) !== scripts(next) || !same(".bar") || !here || !there || isStub(was) !== isStub(next)) return location.reload();
    document.title = next.title;
    sheets(document).forEach((one, i) => {
      const href = sheets(next)[i] && sheets(next)[i].getAttribute("href");
      if (href && href !== one.getAttribute("href")) one.setAttribute("href", href);
    });
    const focus = document.activeElement && here.contains(document.activeElement) && document.activeElement !== here ? nameFocus(document.activeElement) : "";
    const side = [$(".side", document), $(".side", next)], toc = [$(".frame > .toc", document), $(".frame > .toc", next)];
    keepPlace(() => {
      if (!same(".side") && side[0] && side[1]) side[0].replaceChildren(...side[1].childNodes);
      if (!same(".frame > .toc")) {
        if (toc[0] && toc[1]) $("ul", toc[0]).replaceWith($("ul", toc[1]));
        else if (toc[0]) toc[0].remove();
        else here.before(toc[1]);
      }
      patch(here, $("main", was), there);
    });
    was = fresh;
    document.dispatchEvent(new Event("litml:renewed"));
    if (focus && !here.contains(document.activeElement)) {
      const one = findFocus(focus);
      if (one) one.focus({ preventScroll: true });
    }
  };

  let busy = false, wanted = key;
  const fetchNew = async () => {
    if (busy) return;
    busy = true;
    try {
      while (wanted !== key) {
        const answer = await fetch(location.pathname, { cache: "no-store" });
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        const one = $("script[data-key]", next), latest = wanted;
        if (!answer.ok || !one || !one.dataset.key) break;
        key = one.dataset.key;
        renew(next);
        if (latest === wanted) break; // an event is on its way if there is more
      }
    } catch { /* the connection is gone, which is told anyway */ }
    busy = false;
  };

  // What is wrong stands below the page, which stays.
  const host = document.createElement("div"), shade = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    section { position: fixed; z-index: 1000; inset: auto 0 0 0; max-height: 45vh; overflow: auto; padding: 0.9rem 1.2rem; background: #2a1215; color: #ffe9e9; border-top: 3px solid #ff6b6b; font: 15px/1.5 system-ui, sans-serif; box-shadow: 0 -6px 24px #0006 }
    h2 { margin: 0 3rem 0.3rem 0; font-size: 1rem } div { margin: 0.5rem 0; overflow-wrap: anywhere }
    code { font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; color: #ffc9c9 } p { margin: 0; white-space: pre-wrap }
    button { position: absolute; top: 0.7rem; right: 1rem; font: inherit; color: inherit; background: none; border: 1px solid #ff9c9c; border-radius: 4px; padding: 0 0.6rem; cursor: pointer }
    button:focus-visible { outline: 2px solid #fff; outline-offset: 2px }`);
  shade.adoptedStyleSheets = [sheet];
  host.setAttribute("role", "alert");
  host.id = "litml-problems";
  const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });
  const tell = (title, problems) => {
    if (!title) return shade.replaceChildren();
    const box = make("section", ""), hide = make("button", "Hide");
    hide.addEventListener("click", () => shade.replaceChildren());
    box.append(make("h2", title), hide);
    for (const one of problems) {
      const part = make("div", "");
      part.append(make("p", one.message));
      if (one.at) part.append(make("code", `at ${one.at}`));
      if (one.hint) part.append(make("p", `hint: ${one.hint}`));
      box.append(part);
    }
    shade.replaceChildren(box);
    if (!host.isConnected) document.body.append(host);
  };

  let told = "", source = null;
  const hear = (event) => {
    const { key: latest, problems } = JSON.parse(event.data);
    const text = JSON.stringify(problems);
    if (text !== told) tell(problems.length ? (problems.length === 1 ? "Something is wrong" : `${problems.length} things are wrong`) : "", problems);
    told = text;
    if (latest) { wanted = latest; fetchNew(); }
  };
  const listen = () => {
    if (source) source.close();
    source = null;
    if (document.hidden) return; // a browser has few connections, and nobody is looking
    source = new EventSource(news);
    source.onmessage = hear;
    source.onerror = () => { told = "lost"; tell("The preview has ended, or cannot be reached", []); };
  };
  document.addEventListener("visibilitychange", listen);
  addEventListener("pagehide", () => source && source.close());
  addEventListener("pageshow", (event) => event.persisted && listen());
  listen();
})();
