// Record from the microphone, encode WAV, draw waveforms. Nothing leaves the page here.
const RATE = 16000;

export class Recorder {
  constructor(onLevel) {
    this.onLevel = onLevel;
    this.parts = [];
  }

  async start() {
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
    this.context = new AudioContext({ sampleRate: RATE });
    await this.context.audioWorklet.addModule("page/tap.js");
    this.tap = new AudioWorkletNode(this.context, "tap");
    this.tap.port.onmessage = ({ data }) => {
      this.parts.push(data);
      this.onLevel(data.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    };
    this.context.createMediaStreamSource(this.stream).connect(this.tap);
  }

  async stop() {
    this.stream.getTracks().forEach((track) => track.stop());
    await this.context.close();
    this.onLevel(0);
    const samples = new Float32Array(this.parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.parts) {
      samples.set(part, at);
      at += part.length;
    }
    return samples;
  }
}

export function toWav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, value)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

// Samples of a file, to be drawn; null where the browser cannot decode it, which the service may.
export async function decoded(blob) {
  const context = new OfflineAudioContext(1, 1, RATE);
  try {
    return (await context.decodeAudioData(await blob.arrayBuffer())).getChannelData(0);
  } catch {
    return null;
  }
}

export function draw(canvas, samples) {
  const pen = canvas.getContext("2d");
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = getComputedStyle(canvas).color;
  if (!samples) return;
  const step = Math.max(1, Math.floor(samples.length / width));
  for (let x = 0; x < width; x += 2) {
    let most = 0;
    for (let i = x * step; i < Math.min((x + 2) * step, samples.length); i++) most = Math.max(most, Math.abs(samples[i]));
    const tall = Math.max(1, most * height);
    pen.fillRect(x, (height - tall) / 2, 1.4, tall);
  }
}
