// The page's side of the pad: strokes on a canvas go to Python, its answers become bars.
const SIDE = 28; // pixels of an image of MNIST
const SCALE = 10; // pixels of the canvas for each of them
const PEN = 2.2 * SCALE; // as wide as MNIST's strokes, of a digit that fills the pad

function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

// Bytes from Python, one a pixel, as a picture.
function paint(canvas, bytes, side) {
  const context = canvas.getContext("2d");
  context.fillStyle = "black";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (!bytes || bytes.byteLength !== side * side) return;
  const small = new OffscreenCanvas(side, side);
  const picture = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    picture.data.fill(bytes.getUint8(i), 4 * i, 4 * i + 3);
    picture.data[4 * i + 3] = 255;
  }
  small.getContext("2d").putImageData(picture, 0, 0);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function pixelsOf(canvas, side) {
  const small = new OffscreenCanvas(side, side);
  const context = small.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, side, side);
  const rgba = context.getImageData(0, 0, side, side).data;
  const bytes = new Uint8Array(side * side);
  for (let i = 0; i < bytes.length; i++) bytes[i] = rgba[4 * i];
  return new DataView(bytes.buffer);
}

function makeChart(name, classes) {
  const chart = make("section", "fm-pad-chart");
  const answer = make("strong", "fm-pad-answer", "–");
  const title = make("h4", "fm-pad-name", name);
  title.append(" ", answer);
  chart.append(title);
  const rows = classes.map((label) => {
    const row = make("div", "fm-pad-row");
    const bar = make("span", "fm-pad-bar");
    const track = make("span", "fm-pad-track");
    const value = make("span", "fm-pad-value");
    track.append(bar);
    row.append(make("span", "fm-pad-class", label), track, value);
    chart.append(row);
    return { row, bar, value };
  });
  const show = (shares) => {
    const best = shares ? shares.indexOf(Math.max(...shares)) : -1;
    answer.textContent = best < 0 ? "–" : classes[best];
    rows.forEach(({ row, bar, value }, i) => {
      const percent = shares ? 100 * shares[i] : 0;
      bar.style.width = `${percent}%`;
      value.textContent = shares ? `${percent.toFixed(percent < 10 ? 1 : 0)} %` : "";
      row.classList.toggle("fm-pad-best", i === best);
    });
  };
  return { chart, show };
}

function render({ model, el }) {
  const side = model.get("size");
  el.classList.add("fm-pad");
  const canvas = make("canvas", "fm-pad-canvas");
  canvas.width = canvas.height = SIDE * SCALE;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Draw a digit here with the mouse, a pen or a finger");
  const seen = make("canvas", "fm-pad-seen");
  seen.width = seen.height = SIDE;
  const clear = make("button", "fm-pad-button", "Clear");
  const erase = make("button", "fm-pad-button", "Erase");
  erase.setAttribute("aria-pressed", "false");
  clear.type = erase.type = "button";
  const left = make("div", "fm-pad-left");
  const tools = make("div", "fm-pad-tools");
  tools.append(clear, erase, seen, make("span", "fm-pad-note", "what the models see"));
  left.append(canvas, tools);
  const charts = model.get("names").map((name) => [name, makeChart(name, model.get("classes"))]);
  el.append(left, ...charts.map(([, { chart }]) => chart));

  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.lineCap = context.lineJoin = "round";
  let isErasing = false;
  let last = null; // where the pen is, while it is down
  let sent = null;
  let isWaiting = false;

  // At most once a frame: a pen moves more often than that.
  const send = () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      sent = pixelsOf(canvas, side);
      model.set("drawing", sent);
      model.save_changes();
    });
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const stroke = (to) => {
    context.strokeStyle = isErasing ? "black" : "white";
    context.lineWidth = isErasing ? 2 * PEN : PEN;
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...to);
    context.stroke();
    last = to;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(last);
    send();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) stroke(place(each));
    send();
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, () => {
      last = null;
      send();
    });
  }
  const setErasing = (value) => {
    isErasing = value;
    erase.setAttribute("aria-pressed", String(value));
  };
  clear.addEventListener("click", () => {
    paint(canvas, null, side);
    setErasing(false); // on an empty pad there is nothing to erase
    send();
  });
  erase.addEventListener("click", () => setErasing(!isErasing));

  const onDrawing = () => {
    // What this page sent stays as it was drawn: finer than what comes back.
    if (model.get("drawing") !== sent && !last) paint(canvas, model.get("drawing"), side);
  };
  const onSeen = () => paint(seen, model.get("seen"), SIDE);
  const onAnswers = () => {
    const answers = model.get("answers");
    for (const [name, { show }] of charts) show(Object.hasOwn(answers, name) ? answers[name] : null);
  };
  model.on("change:drawing", onDrawing);
  model.on("change:seen", onSeen);
  model.on("change:answers", onAnswers);
  onDrawing();
  onSeen();
  onAnswers();
  return () => {
    model.off("change:drawing", onDrawing);
    model.off("change:seen", onSeen);
    model.off("change:answers", onAnswers);
  };
}

export default { render };
