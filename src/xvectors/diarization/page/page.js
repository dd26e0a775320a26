"use strict";
// Draws the turns of the data in the page, plays them, and saves corrected names. It asks the network for nothing.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const audio = at("audio");
  const names = new Map(data.speakers.map((speaker) => [speaker.id, speaker.label]));
  const SVG = "http://www.w3.org/2000/svg";
  const duration = Math.max(data.duration, 0.001);
  let zoom = 1;
  let stopAt = null;
  let position = 0;
  let changed = false;

  const make = (tag, attributes = {}, text = "") => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  };
  const shape = (tag, attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const clock = (seconds, digits = 1) => {
    const scale = 10 ** digits;
    const ticks = Math.round(seconds * scale);
    const whole = Math.floor(ticks / scale);
    const hours = Math.floor(whole / 3600);
    const minutes = Math.floor(whole / 60) % 60;
    const rest = (whole % 60).toString().padStart(2, "0") + (digits ? "." + (ticks % scale) : "");
    return hours ? `${hours}:${minutes.toString().padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
  };
  const plural = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;

  // speakers with one name are one: the first of them gives the color and the lane
  const groups = () => {
    const found = new Map();
    data.speakers.forEach((speaker, index) => {
      const name = names.get(speaker.id);
      if (!found.has(name)) found.set(name, { name, index, ids: [] });
      found.get(name).ids.push(speaker.id);
    });
    return found;
  };
  const isHatched = (index) => Math.floor(index / data.colors) % 2 === 1;
  const color = (index) => `var(--s${index % data.colors})`;
  const fill = (index) => (isHatched(index) ? `url(#hatch${index})` : color(index));
  const chip = (index) => make("span", {
    class: isHatched(index) ? "chip hatched" : "chip", style: `--color: ${color(index)}`, "aria-hidden": "true",
  });

  const drawWave = () => {
    const number = Math.max(data.peaks.length, 1);
    const wave = at("wave");
    wave.setAttribute("viewBox", `0 0 ${number} 200`);
    const top = data.peaks.map((peak, index) => `${index} ${100 - Math.max(peak, 0.5)}`);
    const bottom = data.peaks.map((peak, index) => `${index} ${100 + Math.max(peak, 0.5)}`).reverse();
    if (top.length) wave.replaceChildren(shape("path", { d: `M${[...top, ...bottom].join("L")}Z` }));
  };
  const drawLanes = () => {
    const lanes = [];
    for (const group of groups().values()) {
      const lane = make("div", { class: "lane" });
      const svg = shape("svg", { viewBox: `0 0 ${duration} 15`, preserveAspectRatio: "none", "aria-hidden": "true" });
      if (isHatched(group.index)) {
        const width = duration / 250;
        const pattern = shape("pattern", {
          id: `hatch${group.index}`, width, height: 6, patternUnits: "userSpaceOnUse",
        });
        pattern.append(shape("rect", { width: width * 0.65, height: 6, style: `fill: ${color(group.index)}` }));
        svg.append(pattern);
      }
      data.turns.forEach(([start, end, id], index) => {
        if (!group.ids.includes(id)) return;
        const rect = shape("rect", { x: start, y: 0, height: 15, "data-turn": index, style: `fill: ${fill(group.index)}` });
        rect.setAttribute("width", Math.max(end - start, duration / 2000));
        const title = shape("title", {});
        title.textContent = `${group.name}, ${clock(start)} to ${clock(end)}`;
        rect.append(title);
        svg.append(rect);
      });
      lane.append(svg, make("span", {}, group.name));
      lanes.push(lane);
    }
    at("lanes").replaceChildren(...lanes);
  };
  const drawRuler = () => {
    const room = at("scroll").clientWidth * zoom;
    const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    const step = steps.find((each) => (each / duration) * room >= 64) || 7200;
    const marks = [];
    for (let time = 0; time < duration; time += step) {
      if ((1 - time / duration) * room < 40) break;
      marks.push(make("span", { style: `left: ${(100 * time) / duration}%` }, clock(time, step < 1 ? 1 : 0)));
    }
    at("ruler").replaceChildren(...marks);
  };
  const drawTurns = () => {
    const byId = new Map();
    for (const group of groups().values()) for (const id of group.ids) byId.set(id, group);
    at("turns").replaceChildren(...data.turns.map(([start, end, id], index) => {
      const group = byId.get(id);
      const button = make("button", { type: "button", "data-turn": index });
      button.append(
        make("span", { class: "time" }, `${clock(start)} to ${clock(end)}`), chip(group.index),
        make("span", { class: "who" }, group.name), make("span", { class: "long" }, `${(end - start).toFixed(1)} s`),
      );
      const item = make("li");
      item.append(button);
      return item;
    }));
  };
  const drawSpeakers = () => {
    at("speakers").replaceChildren(...data.speakers.map((speaker) => {
      const own = data.turns.filter((turn) => turn[2] === speaker.id);
      const seconds = own.reduce((sum, turn) => sum + turn[1] - turn[0], 0);
      const item = make("li", { "data-speaker": speaker.id });
      const input = make("input", {
        type: "text", list: "names", maxlength: 200, "aria-label": `Name of ${speaker.label}`, autocomplete: "off",
        spellcheck: "false",
      });
      input.value = names.get(speaker.id);
      input.addEventListener("change", () => rename(speaker.id, input.value));
      const listen = make("button", { type: "button", "aria-label": `Listen to ${speaker.label}` }, "Listen");
      listen.hidden = !data.audio;
      listen.addEventListener("click", () => {
        const longest = own.reduce((best, turn) => (turn[1] - turn[0] > best[1] - best[0] ? turn : best));
        playTurn(data.turns.indexOf(longest));
      });
      const merge = make("select", { "aria-label": `Merge ${speaker.label} with another speaker` });
      item.append(make("span", { class: "mark" }), input, listen, merge, make("span", { class: "about" },
        `${seconds.toFixed(1)} s in ${plural(own.length, "turn")}`));
      merge.addEventListener("change", () => {
        if (merge.value) rename(speaker.id, names.get(merge.value));
      });
      if (speaker.notes.length) item.append(make("span", { class: "notes" }, speaker.notes.join("; ")));
      return item;
    }));
  };
  const updateSpeakers = () => {
    const found = groups();
    for (const item of at("speakers").children) {
      const id = item.dataset.speaker;
      const group = found.get(names.get(id));
      item.querySelector(".mark").replaceChildren(chip(group.index));
      item.querySelector("input").value = names.get(id);
      const others = data.speakers.filter((other) => other.id !== id && !group.ids.includes(other.id));
      item.querySelector("select").replaceChildren(
        make("option", { value: "" }, group.ids.length > 1 ? `one of ${group.ids.length} merged` : "Merge with …"),
        ...others.map((other) => make("option", { value: other.id }, names.get(other.id))),
      );
      item.querySelector("select").hidden = data.speakers.length < 2;
    }
    at("names").replaceChildren(...[...found.keys()].map((name) => make("option", { value: name })));
    const speech = data.turns.reduce((sum, turn) => sum + turn[1] - turn[0], 0);
    at("summary").textContent = `${plural(found.size, "speaker")}, ${plural(data.turns.length, "turn")}, ` +
      `${clock(speech, 0)} of speech in ${clock(data.duration, 0)}`;
    const quoted = (text) => (/^[\w.\/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
    at("command").textContent = `xvectors diarize ${quoted(data.file)} --turns ${quoted(`${data.recording}.rttm`)} ` +
      `--enroll ${quoted(`${data.recording}.names.json`)}`;
  };
  const draw = () => {
    drawLanes();
    drawTurns();
    updateSpeakers();
    show();
  };
  const rename = (id, text) => {
    const name = text.trim().replace(/\s+/g, " ");
    if (name && name !== names.get(id)) {
      names.set(id, name);
      changed = true;
    }
    draw();
  };

  const current = () => {
    let found = -1;
    for (let index = 0; index < data.turns.length && data.turns[index][0] <= position + 0.02; index += 1) {
      if (data.turns[index][1] > position) found = index;
    }
    return found;
  };
  const show = () => {
    at("clock").textContent = clock(position);
    at("head").style.left = `${(100 * position) / duration}%`;
    const timeline = at("timeline");
    timeline.setAttribute("aria-valuemax", duration.toFixed(1));
    timeline.setAttribute("aria-valuenow", position.toFixed(1));
    const index = current();
    const who = index < 0 ? "nobody" : names.get(data.turns[index][2]);
    timeline.setAttribute("aria-valuetext", `${clock(position)}, ${who}`);
    at("now").textContent = index < 0 ? "" : who;
    const marked = at("turns").querySelector(".current");
    const button = index < 0 ? null : at("turns").querySelector(`[data-turn="${index}"]`);
    if (marked !== button) {
      if (marked) marked.classList.remove("current");
      if (button) button.classList.add("current");
    }
  };
  const follow = () => {
    const scroll = at("scroll");
    const x = (position / duration) * at("timeline").clientWidth;
    if (x < scroll.scrollLeft || x > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = x - scroll.clientWidth / 4;
  };
  const seek = (seconds) => {
    position = Math.min(Math.max(seconds, 0), duration);
    stopAt = null;
    if (data.audio) audio.currentTime = position;
    follow();
    show();
  };
  const tell = (text) => {
    at("message").textContent = text;
    at("message").hidden = !text;
  };
  const play = async () => {
    if (!data.audio) return;
    try {
      await audio.play();
      tell("");
    } catch (error) {
      if (error.name === "AbortError") return; // paused again at once
      tell(`The browser cannot play ${data.file} (${error.message}). Keep it at ${decodeURI(data.audio.slice(0, 200))}, ` +
        "as WAV, MP3 or FLAC.");
    }
  };
  const toggle = () => {
    stopAt = null;
    if (audio.paused) play();
    else audio.pause();
  };
  const playTurn = (index) => {
    if (index < 0 || index >= data.turns.length) return;
    seek(data.turns[index][0]);
    stopAt = data.turns[index][1];
    play();
  };
  const tick = () => {
    if (!audio.paused) {
      position = audio.currentTime;
      if (stopAt !== null && position >= stopAt) {
        audio.pause();
        stopAt = null;
      }
      follow();
      show();
      requestAnimationFrame(tick);
    }
  };

  const download = (name, text, type) => {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    document.body.append(link);
    link.click();
    URL.revokeObjectURL(link.href);
    link.remove();
    changed = false;
  };
  const rttm = () => {
    const turns = [];
    const last = new Map();
    for (const [start, end, id] of data.turns) {
      const name = names.get(id).split(/\s+/).join("_");
      const before = last.get(name);
      // turns of merged speakers that touch or overlap are one
      if (before && start <= before[1]) before[1] = Math.max(before[1], end);
      else {
        const turn = [start, end, name];
        last.set(name, turn);
        turns.push(turn);
      }
    }
    return turns.map(([start, end, name]) =>
      `SPEAKER ${data.recording} 1 ${start.toFixed(3)} ${(end - start).toFixed(3)} <NA> <NA> ${name} <NA> <NA>\n`).join("");
  };
  const chosenNames = () => Object.fromEntries(data.speakers
    .filter((speaker) => names.get(speaker.id) !== speaker.label)
    .map((speaker) => [speaker.label, names.get(speaker.id)]));

  at("rttm").addEventListener("click", () => download(`${data.recording}.rttm`, rttm(), "text/plain"));
  at("json").addEventListener("click", () => {
    const chosen = chosenNames();
    if (!Object.keys(chosen).length) {
      tell("No speaker has a new name yet: write one in the list of speakers.");
      return;
    }
    tell("");
    download(`${data.recording}.names.json`, JSON.stringify(chosen, null, 2) + "\n", "application/json");
  });
  at("turns").addEventListener("click", (event) => {
    const button = event.target.closest("[data-turn]");
    if (button) playTurn(Number(button.dataset.turn));
  });
  at("timeline").addEventListener("click", (event) => {
    const rect = event.target.closest("[data-turn]");
    if (rect) {
      playTurn(Number(rect.dataset.turn));
      return;
    }
    const box = at("timeline").getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * duration);
  });
  const scale = (factor) => {
    zoom = Math.min(Math.max(zoom * factor, 1), Math.max(1, duration / 5));
    at("timeline").style.width = `${100 * zoom}%`;
    drawRuler();
    const scroll = at("scroll");
    scroll.scrollLeft = (position / duration) * at("timeline").clientWidth - scroll.clientWidth / 2;
  };
  at("in").addEventListener("click", () => scale(2));
  at("out").addEventListener("click", () => scale(0.5));
  if (data.audio) {
    audio.src = data.audio;
    at("play").addEventListener("click", toggle);
    at("back").addEventListener("click", () => seek(position - 5));
    at("ahead").addEventListener("click", () => seek(position + 5));
    audio.addEventListener("play", () => { at("play").textContent = "Pause"; tick(); });
    audio.addEventListener("pause", () => { at("play").textContent = "Play"; show(); });
  } else {
    tell("This page has no sound: it was written without a file of the recording.");
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const turn = current();
    const next = turn >= 0 ? turn + 1 : data.turns.findIndex((each) => each[0] > position);
    const before = data.turns.findLastIndex((each) => each[1] <= position || each[0] < position - 0.5);
    const actions = {
      ArrowLeft: () => seek(position - 5), ArrowRight: () => seek(position + 5),
      j: () => playTurn(next), k: () => playTurn(before === turn ? turn : before),
    };
    if (!event.target.closest("button")) actions[" "] = toggle;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  });
  window.addEventListener("resize", drawRuler);
  window.addEventListener("beforeunload", (event) => {
    if (changed) event.preventDefault();
  });
  drawWave();
  drawSpeakers();
  drawRuler();
  draw();
})();
