// The page: one current recording, and what can be asked about it.
import { drawMap } from "./map.js";
import { ask, Refused, useKey } from "./service.js";
import { decoded, draw, Recorder, toWav } from "./sound.js";
import { strings } from "./strings.js";

const $ = (id) => document.getElementById(id);
const percent = (p) => (p > 0.999 ? "over 99.9 %" : p < 0.001 ? "under 0.1 %" : `${(100 * p).toFixed(1)} %`);
let current = null;
let recorder = null;
let heard = null; // the speaker of the last answer

function enable() {
  document.querySelectorAll("#identify, #diarize, #enroll button").forEach((button) => (button.disabled = !current));
  document.querySelector("#verify button").disabled = !current || !$("claimed").options.length;
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

async function show(blob, name) {
  current = blob;
  const samples = await decoded(blob);
  draw($("waveform"), samples);
  const seconds = samples ? (samples.length / 16000).toFixed(1) : "?";
  $("waveform").setAttribute("aria-label", strings.waveform(name, seconds));
  $("current").textContent = strings.ready(name, seconds);
  URL.revokeObjectURL($("player").src);
  $("player").src = URL.createObjectURL(blob);
  $("player").hidden = false;
  enable();
}

async function toggleRecording() {
  if (recorder) {
    const samples = await recorder.stop();
    recorder = null;
    await show(toWav(samples), strings.microphone);
  } else {
    const begun = new Recorder((level) => ($("level").value = level));
    try {
      await begun.start();
    } catch {
      $("current").textContent = strings.noMicrophone;
      return;
    }
    recorder = begun;
    $("current").textContent = strings.recordingNow;
  }
  $("record").textContent = recorder ? strings.stop : strings.record;
  $("record").classList.toggle("recording", Boolean(recorder));
}

// Do something with the service, and say in `place` what it refuses.
async function tried(place, action) {
  place.replaceChildren();
  place.className = place.id === "verdict" ? "verdict" : "";
  $("progress").textContent = strings.working;
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    place.replaceChildren(element("p", error.message, { class: "problem", role: "alert" }));
  } finally {
    $("progress").textContent = "";
  }
}

function verdict(kind, title, found, name) {
  const place = $("verdict");
  place.className = `verdict ${kind}`;
  place.replaceChildren(element("strong", title));
  if (name && found.probability !== null && found.llr !== null)
    place.append(
      element("p", strings.sure(name, percent(found.probability), percent(found.prior))),
      element("p", strings.evidence(found.llr), { class: "quiet" }),
    );
  const notes = [...found.reasons, ...(found.recording ?? found.recordings.at(-1)).notes];
  if (notes.length) {
    const list = element("ul", "", { class: "reasons" });
    notes.forEach((note) => list.append(element("li", note)));
    place.append(list);
  }
  place.focus();
  return place;
}

const identify = () =>
  tried($("verdict"), async () => {
    const found = await ask("POST", "v1/voice/identify", { file: current, top_k: 5 });
    const title =
      found.decision === "accept"
        ? strings.accepted(found.speaker)
        : found.decision === "reject"
          ? strings.nobody
          : strings.cannotTell;
    const place = verdict(found.decision, title, found); // the list states the probabilities
    await showMap(found.speaker);
    if (!found.matches.length) return;
    place.append(element("h3", strings.candidates));
    const list = element("ol", "", { class: "bars" });
    const rows = found.matches.map((match) => [match.name, match.probability ?? 0]);
    if (found.p_nobody !== null) rows.push([strings.nobodyRow, found.p_nobody]);
    for (const [name, probability] of rows) {
      const row = element("li", name);
      row.append(element("meter", "", { min: 0, max: 1, value: probability, "aria-label": name }), percent(probability));
      list.append(row);
    }
    place.append(list);
  });

const verify = () =>
  tried($("verdict"), async () => {
    const name = $("claimed").value;
    const found = await ask("POST", "v1/voice/verify", { file: current, speaker: name });
    const titles = { accept: strings.accepted(name), reject: strings.rejected(name), cannot_tell: strings.cannotTell };
    verdict(found.decision, titles[found.decision], found, name);
    await showMap(found.verified ? name : null);
  });

const diarize = () =>
  tried($("verdict"), async () => {
    let job = await ask("POST", "v1/diarize", { file: current });
    while (job.stage !== "done") {
      if (job.stage === "failed") throw new Refused(job.error);
      $("progress").textContent = strings.diarizing(`${Math.round(100 * job.progress)} %`);
      await new Promise((resolve) => setTimeout(resolve, 300));
      job = await ask("GET", `v1/diarize/${job.id}`);
    }
    await ask("DELETE", `v1/diarize/${job.id}`);
    showTurns(job.result);
  });

function showTurns(result) {
  const place = $("verdict");
  const labels = [...new Set(result.turns.map((turn) => turn.speaker))];
  const names = Object.fromEntries(result.turns.map((turn) => [turn.speaker, turn.name ?? turn.speaker]));
  place.replaceChildren(element("h3", strings.turns), ...result.reasons.map((reason) => element("p", reason)));
  const list = element("ol", "", { class: "turns" });
  const render = () =>
    list.replaceChildren(
      ...result.turns.map((turn) => {
        const row = element("li", "", { class: `speaker-${labels.indexOf(turn.speaker) % 6}` });
        const time = strings.turn(turn.start_s.toFixed(1), turn.end_s.toFixed(1));
        row.append(element("strong", names[turn.speaker]), ` ${time}`);
        return row;
      }),
    );
  for (const label of labels) {
    const input = element("input", "", { value: names[label], "aria-label": strings.rename(label) });
    input.addEventListener("input", () => {
      names[label] = input.value || label;
      render();
    });
    place.append(input);
  }
  render();
  place.append(list);
  place.focus();
}

const enroll = () =>
  tried($("enrolled"), async () => {
    const name = $("name").value;
    const found = await ask("POST", "v1/voice/register", { name, file: current, consent: strings.consentNote });
    $("enrolled").textContent = strings.enrolled(found.name, found.speaker.speech_needed_s);
    if (found.doubts.length) $("enrolled").append(element("p", strings.doubted(found.name), { class: "problem" }));
    $("enroll").reset();
    await list();
  });

async function list() {
  let found;
  try {
    found = (await ask("GET", "v1/speakers?limit=1000")).speakers;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("speakers").replaceChildren(element("li", error.message, { class: "problem", role: "alert" }));
    $("key-box").open = true;
    return;
  }
  const alike = await showMap(heard);
  $("claimed").replaceChildren(...found.map((speaker) => element("option", speaker.name, { value: speaker.name })));
  $("speakers").replaceChildren(
    ...found.map((speaker) => {
      const row = element("li");
      const forget = element("button", strings.forget, { type: "button", "aria-label": strings.forgetNamed(speaker.name) });
      forget.addEventListener("click", async () => {
        if (!confirm(strings.reallyForget(speaker.name))) return;
        await tried($("enrolled"), async () => {
          await ask("DELETE", `v1/speakers/${encodeURIComponent(speaker.name)}`);
          await list();
          $("enrolled").textContent = strings.forgotten(speaker.name);
          $("speakers-title").focus(); // the button is gone
        });
      });
      const parts = [strings.speech(speaker.speech_s, speaker.num_voiceprints), strings.status[speaker.status]];
      if (alike.get(speaker.name)) parts.push(strings.alike(alike.get(speaker.name)));
      const about = parts.join(", ");
      row.append(element("strong", speaker.name), element("span", about, { class: "quiet" }), forget);
      return row;
    }),
  );
  enable();
  if (!found.length) $("speakers").append(element("li", strings.nobodyYet, { class: "quiet" }));
}

// Draw the map of voices, and return who sounds most like each speaker. Without two speakers there is none.
async function showMap(speaker) {
  heard = speaker;
  let found = { points: [] };
  try {
    found = await ask("GET", "v1/map");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  }
  $("map-box").hidden = found.points.length < 2;
  if (!$("map-box").hidden) {
    drawMap($("map"), found, heard);
    const share = `${Math.round(100 * found.shown_share)} %`;
    $("map-about").textContent = strings.mapAbout(found.points.length, found.num_speakers, share);
  }
  return new Map(found.points.map((point) => [point.name, point.nearest]));
}

document.querySelectorAll("[data-text]").forEach((place) => (place.textContent = strings[place.dataset.text]));
$("current").textContent = strings.nothing;
$("waveform").setAttribute("aria-label", strings.nothing);
$("level").setAttribute("aria-label", strings.level);
$("player").setAttribute("aria-label", strings.player);
$("record").addEventListener("click", toggleRecording);
$("file").addEventListener("change", () => $("file").files[0] && show($("file").files[0], $("file").files[0].name));
$("identify").addEventListener("click", identify);
$("diarize").addEventListener("click", diarize);
$("verify").addEventListener("submit", (event) => (event.preventDefault(), verify()));
$("enroll").addEventListener("submit", (event) => (event.preventDefault(), enroll()));
$("key").addEventListener("change", () => (useKey($("key").value), list()));
$("drop").addEventListener("dragover", (event) => event.preventDefault());
$("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (file) show(file, file.name);
});
list();
