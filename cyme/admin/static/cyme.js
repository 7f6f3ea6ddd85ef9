// What pages do by themselves. Everything works without it: it keeps what is shown fresh, follows
// logs, and counts what is chosen.
"use strict";

(function () {
  const main = document.getElementById("main");
  const liveness = document.getElementById("liveness");

  // -- streams that rest while nobody looks: a browser has few connections for each site ---------

  function stream(url, handlers) {
    let source = null;
    function open() {
      if (source || document.hidden) return;
      source = new EventSource(url);
      source.addEventListener("open", () => handlers.open && handlers.open());
      source.addEventListener("error", () => {
        if (source && source.readyState === EventSource.CLOSED) close(5000);
        if (handlers.cut) handlers.cut();
      });
      for (const kind of Object.keys(handlers.on)) {
        source.addEventListener(kind, (event) => handlers.on[kind](JSON.parse(event.data), end));
      }
    }
    function close(again) {
      if (source) source.close();
      source = null;
      if (again) setTimeout(open, again);
    }
    function end() {
      document.removeEventListener("visibilitychange", look);
      close();
    }
    function look() {
      document.hidden ? close() : open();
    }
    document.addEventListener("visibilitychange", look);
    addEventListener("pagehide", () => close());
    addEventListener("pageshow", (event) => event.persisted && open());
    open();
  }

  // -- taking over what differs, so that focus, choices and scrolling stay as they are ------------

  function key(node) {
    return node.nodeType === Node.ELEMENT_NODE ? node.id || null : null;
  }

  // Of what has no id the first class says what it is.
  function role(node) {
    return node.nodeType === Node.ELEMENT_NODE ? (node.getAttribute("class") || "").split(" ")[0] : "";
  }

  function alike(one, other) {
    if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName) return false;
    return key(one) === key(other) && (key(one) !== null || role(one) === role(other));
  }

  function takeOver(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.hasAttribute("data-still") || old === document.activeElement) return;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !["open", "hidden"].includes(name)) old.removeAttribute(name);
    }
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) === value) continue;
      if (["open", "hidden"].includes(name)) continue;
      if (["value", "checked", "selected"].includes(name) && old.matches("input:not([type=hidden]), option")) continue;
      old.setAttribute(name, value);
    }
    if (old.matches("textarea, select")) return;
    takeOverChildren(old, fresh);
  }

  function takeOverChildren(old, fresh) {
    const byKey = new Map();
    for (const child of old.childNodes) if (key(child)) byKey.set(key(child), child);
    let place = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      let found = null;
      if (key(wanted)) {
        found = byKey.get(key(wanted)) || null;
        if (found && !alike(found, wanted)) found = null;
      } else if (place && !key(place) && alike(place, wanted)) {
        found = place;
      }
      if (found) {
        if (found === place) place = place.nextSibling;
        else old.insertBefore(found, place);
        takeOver(found, wanted);
      } else {
        old.insertBefore(document.importNode(wanted, true), place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  // -- pages that stay fresh ------------------------------------------------------------------------

  function sayLive(isLive) {
    if (!liveness) return;
    liveness.hidden = false;
    liveness.classList.toggle("is-cut", !isLive);
    const text = isLive ? "live" : "not connected";
    if (liveness.textContent !== text) liveness.textContent = text;
  }

  let fetching = false;
  let missed = false;

  async function refresh() {
    if (fetching) {
      missed = true;
      return;
    }
    fetching = true;
    try {
      const answer = await fetch(location.href, { headers: { "Cyme-Live": "1" }, redirect: "error" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (answer.status === 200 && fresh) {
        keepFlash(fresh);
        takeOverChildren(main, fresh);
        enhance();
      }
      sayLive(answer.ok);
    } catch (_) {
      sayLive(false);
    } finally {
      fetching = false;
      if (missed) {
        missed = false;
        setTimeout(refresh, 200);
      }
    }
  }

  // What was said once stays until the page is left.
  function keepFlash(fresh) {
    const said = document.getElementById("flash");
    if (said && !fresh.querySelector("#flash")) fresh.prepend(said.cloneNode(true));
  }

  if (main.dataset.live) {
    let isFirst = true;
    stream(main.dataset.live, {
      open() {
        sayLive(true);
        // What happened between the page's making and now, or while it was not looked at.
        if (!isFirst || performance.now() > 3000) refresh();
        isFirst = false;
      },
      cut: () => sayLive(false),
      on: { changed: refresh },
    });
  }

  // -- lists in which several are chosen -----------------------------------------------------------

  function boxes(name) {
    return [...document.querySelectorAll(`input[type=checkbox][name="${name}"]`)];
  }

  function count() {
    for (const label of document.querySelectorAll("[data-count-of]")) {
      const all = boxes(label.dataset.countOf);
      const chosen = all.filter((box) => box.checked).length;
      const text = chosen ? `With ${chosen} chosen:` : "With those chosen:";
      if (label.textContent !== text) label.textContent = text;
      for (const box of document.querySelectorAll(`[data-all="${label.dataset.countOf}"]`)) {
        box.checked = chosen > 0 && chosen === all.length;
        box.indeterminate = chosen > 0 && chosen < all.length;
      }
    }
  }

  function enhance() {
    for (const box of document.querySelectorAll("[data-all]")) box.hidden = false;
    count();
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) {
      for (const box of boxes(event.target.dataset.all)) box.checked = event.target.checked;
    }
    if (event.target.matches("[data-all], input[type=checkbox]")) count();
  });
  enhance();

  // -- logs -----------------------------------------------------------------------------------------

  const log = document.getElementById("log");
  if (log) {
    const follow = document.getElementById("follow");
    const state = document.getElementById("tail-state");
    follow.closest("label").hidden = false;
    let lines = [];
    const atEnd = () => {
      if (follow.checked) log.scrollTop = log.scrollHeight;
    };
    const say = (text) => {
      if (state.textContent !== text) state.textContent = text;
    };
    log.addEventListener("scroll", () => {
      const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
      if (isAtEnd !== follow.checked) follow.checked = isAtEnd;
    });
    follow.addEventListener("change", atEnd);
    atEnd();
    stream(log.dataset.log, {
      open() {
        lines = [];
        say("live");
      },
      cut: () => say("not connected"),
      on: {
        lines(told) {
          say("live");
          lines = lines.slice(told.drop).concat(told.add);
          log.textContent = lines.map((line) => line + "\n").join("");
          atEnd();
        },
        away: (told) => say(told.problem),
        gone(_, end) {
          say("the instance was deleted");
          end();
        },
      },
    });
  }

  // -- forms ----------------------------------------------------------------------------------------

  const refused = document.getElementById("refused");
  if (refused) refused.focus();
})();
