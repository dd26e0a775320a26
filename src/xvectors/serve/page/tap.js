// Passes what the microphone gives to the page, in blocks of about 0.1 s.
class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(1600);
    this.count = 0;
  }

  process([[channel]]) {
    for (const value of channel ?? []) {
      this.block[this.count++] = value;
      if (this.count === this.block.length) {
        this.port.postMessage(this.block.slice());
        this.count = 0;
      }
    }
    return true;
  }
}

registerProcessor("tap", Tap);
