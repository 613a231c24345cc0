"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const ink = "#1c1c1c";
  const primary = data.curve_metrics[data.metric];
  const plain = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const state = { shown: new Set(data.values.map((v) => v.name)), axes: {}, chosen: null,
    sort: { column: "test", down: data.higher } };

  byId("contents").open = matchMedia("(min-width: 1100px)").matches;
  await loadLibrary();
  buildControls();
  buildTable();
  update();

  // The library is kept compressed: that makes the page a third as large.
  async function loadLibrary() {
    const packed = Uint8Array.from(atob(byId("library").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  function buildControls() {
    const box = byId("values");
    box.querySelector("legend").textContent = data.lead;
    for (const value of data.values) {
      const input = element("input", { type: "checkbox", checked: true, value: value.name });
      input.addEventListener("change", () => {
        if (input.checked) state.shown.add(value.name); else state.shown.delete(value.name);
        update();
      });
      const swatch = element("span", { className: "swatch" }, value.sign);
      swatch.style.color = value.colour;
      const label = element("label", {}, input, swatch, value.name);
      box.append(label);
    }
    for (const [axis, values] of Object.entries(data.axes)) {
      const select = element("select", { id: `axis-${axis}` },
        ...["all", ...values].map((v, i) => element("option", { value: i ? v : "" }, v)));
      select.addEventListener("change", () => { state.axes[axis] = select.value; update(); });
      byId("axes").append(element("label", {}, axis, select));
    }
    for (const [column, cost] of Object.entries(data.costs))
      byId("cost").append(element("option", { value: column }, cost));
    for (const id of ["metric", "seeds", "training", "cost"]) byId(id).addEventListener("change", update);
    byId("filter").addEventListener("input", fillTable);
    byId("theme").addEventListener("click", () => {
      const dark = document.documentElement.dataset.theme
        ? document.documentElement.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      document.documentElement.dataset.theme = dark ? "light" : "dark";
    });
  }

  function showKey() {
    const others = Object.keys(data.axes).join(", ");
    byId("key").textContent = data.alike ? `Lines and points of one colour differ in ${others}: choose above to see one.`
      : data.fills.map((fill) => `${fill.sign} ${fill.name}`).join("   ");
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function visible(config) {
    return state.shown.has(config.value)
      && Object.entries(state.axes).every(([axis, value]) => !value || config.cell[axis] === value);
  }

  function shownTrials() {
    return data.trials.filter((trial) => visible(data.configs[trial.config]));
  }

  function update() {
    const trials = shownTrials();
    showKey();
    drawCurves(trials);
    drawRanked();
    drawCosts(trials);
    fillTable();
    byId("status").textContent = `${trials.length} of ${data.trials.length} trials shown`;
  }

  // Colours for a white page: the style sheet turns charts over in the dark.
  function layout(changes) {
    const axis = { gridcolor: "#dddddd", zerolinecolor: "#dddddd", automargin: true };
    const merged = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      font: { color: ink, family: "system-ui, sans-serif", size: 13 }, showlegend: false,
      margin: { l: 55, r: 15, t: 42, b: 45 }, ...changes };
    merged.xaxis = { ...axis, ...changes.xaxis };
    merged.yaxis = { ...axis, ...changes.yaxis };
    return merged;
  }

  function draw(id, title, traces, changes) {
    const box = byId(id);
    byId(`${id}-title`).textContent = title;
    const settings = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
    Plotly.react(box, traces, layout(changes), settings);
    if (!box.dataset.linked) {
      box.dataset.linked = "yes";
      box.on("plotly_click", (event) => {
        const trial = event.points[0].customdata;
        if (typeof trial === "string") choose(trial, true);
      });
    }
  }

  function drawOf(trial) {
    return trial.fold === null ? `seed ${trial.seed}` : `seed ${trial.seed}, fold ${trial.fold}`;
  }

  function settingsOf(trial) {
    const config = data.configs[trial.config];
    const cell = Object.entries(config.cell).map(([axis, value]) => `${plain(axis)}: ${plain(value)}`);
    return [`<b>${plain(config.label)}</b>`, drawOf(trial), ...cell].join("<br>");
  }

  function scoreOf(trial) {
    return `${settingsOf(trial)}<br>${trial.shown.test}${primary.unit}`;
  }

  function drawCurves(trials) {
    const metric = byId("metric").value;
    const { label, axis, scale, training } = data.curve_metrics[metric];
    const validated = trials.some((t) => data.curves[t.id] && data.curves[t.id].val);
    const both = training && byId("training").checked;
    const splits = !validated ? ["train"] : both ? ["val", "train"] : ["val"];
    const traces = [];
    const groups = new Map();
    for (const trial of trials) {
      if (!data.curves[trial.id]) continue;
      if (!groups.has(trial.config)) groups.set(trial.config, []);
      groups.get(trial.config).push(trial);
    }
    for (const [id, members] of groups) {
      const config = data.configs[id];
      for (const split of splits) {
        const drawn = members.filter((t) => data.curves[t.id][split]);
        if (!drawn.length) continue;
        const series = drawn.map((t) => data.curves[t.id][split][metric]);
        const dash = split === "val" ? "solid" : "dash";
        if (byId("seeds").value === "each") {
          drawn.forEach((trial, i) => traces.push(line(series[i].map((y) => y === null ? null : scale * y),
            config, dash, 1.2, `${settingsOf(trial)}<br>${split}`, trial.id)));
        } else {
          const length = Math.min(...series.map((s) => s.length));
          const [mean, sd] = moments(series, length, scale);
          const reach = data.reach[series.length];
          if (split === "val" && reach) traces.push(band(mean, sd.map((v) => reach * v), config.colour, metric));
          const note = `<b>${plain(config.label)}</b><br>${split}, mean of ${series.length}`;
          traces.push(line(mean, config, dash, split === "val" ? 2.4 : 1.4, note, null));
        }
      }
    }
    const chosen = data.trials.find((t) => t.id === state.chosen);
    if (chosen && data.curves[chosen.id]) {
      const own = data.curves[chosen.id];
      const y = (own.val || own.train)[metric].map((v) => v === null ? null : scale * v);
      traces.push(line(y, { colour: ink, symbol: "circle" }, "solid", 4, `${settingsOf(chosen)}<br>${own.val ? "val" : "train"}`, chosen.id));
    }
    const what = splits.length > 1 ? "Validation and (dashed) training"
      : validated ? "Validation" : "Training";
    // One epoch with an R² far below would leave nothing to see of others: zooming out shows it.
    const far = metric === "r2" && traces.some((t) => t.y.some((value) => value !== null && value < -1));
    const range = far ? { range: [-1, 1.05] } : {};
    draw("curves", `${what} ${label} by epoch${far ? ", from −1 on" : ""}`, traces,
      { xaxis: { title: { text: "epoch" }, ...wholeTicks(traces) }, yaxis: { title: { text: plain(axis) }, ...range } });
  }

  // Ticks at whole epochs only, eight or so.
  function wholeTicks(traces) {
    const last = Math.max(1, ...traces.map((trace) => trace.x.length && Math.max(...trace.x)));
    const steps = [1, 2, 5].flatMap((n) => [1, 10, 100, 1000].map((ten) => n * ten)).sort((a, b) => a - b);
    const dtick = steps.find((step) => last / step <= 8) ?? 5000;
    return { tick0: dtick === 1 ? 1 : 0, dtick };
  }

  function line(y, config, dash, width, note, trial) {
    const { colour: color } = config, one = y.length === 1, marked = one || config.symbol !== "circle" || data.fills.length;
    return { x: y.map((_, i) => i + 1), y, mode: one ? "markers" : marked ? "lines+markers" : "lines",
      line: { color, dash, width }, marker: { color, symbol: config.symbol, size: 8, maxdisplayed: 8 }, customdata: y.map(() => trial),
      hovertemplate: `${note}<br>epoch %{x}: %{y:.4~g}<extra></extra>` };
  }

  function moments(series, length, scale) {
    const mean = [], sd = [];
    for (let i = 0; i < length; i++) {
      const values = series.map((s) => s[i]);
      if (values.includes(null)) { mean.push(null); sd.push(null); continue; }
      const m = values.reduce((a, b) => a + b, 0) / values.length;
      const squares = values.reduce((a, b) => a + (b - m) ** 2, 0);
      mean.push(scale * m);
      sd.push(values.length > 1 ? scale * Math.sqrt(squares / (values.length - 1)) : 0);
    }
    return [mean, sd];
  }

  function band(mean, sd, colour, metric) {
    const [low, high] = data.curve_metrics[metric].bounds;
    const limit = (v) => Math.min(high ?? Infinity, Math.max(low ?? -Infinity, v));
    const known = mean.map((m, i) => i).filter((i) => mean[i] !== null);
    const up = known.map((i) => limit(mean[i] + sd[i])), down = known.map((i) => limit(mean[i] - sd[i]));
    return { x: [...known, ...known.slice().reverse()].map((i) => i + 1), y: [...up, ...down.reverse()],
      fill: "toself", fillcolor: `${colour}2b`, line: { width: 0 }, hoverinfo: "skip", mode: "lines" };
  }

  function drawRanked() {
    const rows = data.ranking.filter((row) => visible(data.configs[row.config])).slice(0, 40).reverse();
    const labels = rows.map((row) => data.configs[row.config].label);
    const dots = { x: [], y: [], text: [], customdata: [], mode: "markers",
      marker: { color: [], size: 6, opacity: 0.5 }, hovertemplate: "%{text}<extra></extra>" };
    rows.forEach((row, i) => {
      for (const trial of data.trials) {
        if (trial.config !== row.config || trial.test === null) continue;
        dots.x.push(primary.scale * trial.test); dots.y.push(i); dots.customdata.push(trial.id);
        dots.text.push(scoreOf(trial)); dots.marker.color.push(data.configs[row.config].colour);
      }
    });
    const colours = rows.map((row) => data.configs[row.config].colour);
    const ends = rows.map((row) => row.low === null ? [0, 0] : [row.high - row.mean, row.mean - row.low]);
    const means = { x: rows.map((row) => primary.scale * row.mean), y: rows.map((_, i) => i), mode: "markers",
      marker: { color: colours, symbol: rows.map((row) => data.configs[row.config].symbol), size: 12 },
      text: rows.map((row, i) => `<b>${plain(labels[i])}</b><br>mean ${row.shown}`),
      hovertemplate: "%{text}<extra></extra>" };
    const bars = rows.map((row, i) => ({ x: [primary.scale * row.mean], y: [i], mode: "markers", hoverinfo: "skip",
      marker: { size: 1, color: colours[i] }, error_x: { type: "data", symmetric: false, color: colours[i],
        array: [primary.scale * ends[i][0]], arrayminus: [primary.scale * ends[i][1]] } }));
    const narrow = byId("ranked").clientWidth < 450;
    byId("ranked").style.height = `${Math.max(300, 110 + (narrow ? 40 : 28) * rows.length)}px`;
    const short = (text, room) => text.length > room
      ? `${text.slice(0, room * 0.6)}…${text.slice(-room * 0.35)}` : text;
    const onTwoLines = (text) => {
      const [first, ...rest] = text.split(" · ");
      return [first, rest.join(" · ")].filter(Boolean).map((part) => plain(short(part, 20))).join("<br>");
    };
    const each = data.trials.some((t) => t.fold !== null) ? "each fold" : "each seed";
    const written = narrow ? onTwoLines : (text) => plain(short(text, 34));
    const interval = rows.some((row) => row.low !== null) ? ", 95 % interval over seeds" : "";
    draw("ranked", `Test ${primary.label}: mean${interval}, ${each}`, [dots, ...bars, means], {
      xaxis: { title: { text: plain(`test ${primary.axis}`) } },
      yaxis: { tickvals: rows.map((_, i) => i), ticktext: labels.map(written) } });
  }

  function drawCosts(trials) {
    const column = byId("cost").value;
    const known = trials.filter((t) => t.test !== null && t.costs[column] !== null);
    const positive = known.every((t) => t.costs[column] > 0);
    const values = known.map((t) => t.costs[column]);
    const wide = positive && Math.max(...values) > 8 * Math.min(...values);
    const trace = { x: values, y: known.map((t) => primary.scale * t.test), mode: "markers",
      marker: { color: known.map((t) => data.configs[t.config].colour), size: 9, opacity: 0.75,
        symbol: known.map((t) => data.configs[t.config].symbol) },
      text: known.map((t) => `${scoreOf(t)}<br>${t.shown[column]}`), customdata: known.map((t) => t.id),
      hovertemplate: "%{text}<extra></extra>" };
    const name = data.costs[column] || "cost";
    draw("costs", `Test ${primary.label} against ${name}`, [trace], {
      xaxis: { title: { text: name }, type: wide ? "log" : "linear" },
      yaxis: { title: { text: plain(`test ${primary.axis}`) } } });
  }

  function buildTable() {
    const row = element("tr", {});
    for (const column of data.columns) {
      const button = element("button", { type: "button" }, column.title);
      button.addEventListener("click", () => {
        const same = state.sort.column === column.name;
        state.sort = { column: column.name, down: same ? !state.sort.down : column.number };
        fillTable();
      });
      const cell = element("th", { scope: "col", className: column.number ? "number" : "" }, button);
      cell.dataset.column = column.name;
      row.append(cell);
    }
    byId("trials").tHead.append(row);
  }

  function cellOf(trial, column) {
    if (column.name.startsWith("axis:")) return data.configs[trial.config].cell[column.name.slice(5)] ?? "";
    return trial[column.name] ?? trial.costs[column.name] ?? null;
  }

  // Figures are written by Python, as in the rest of the report.
  function shownCell(trial, column) {
    return trial.shown[column.name] ?? String(cellOf(trial, column) ?? "–");
  }

  function fillTable() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const column = data.columns.find((c) => c.name === state.sort.column);
    const rows = shownTrials().map((trial) => ({ trial, key: cellOf(trial, column),
      cells: data.columns.map((c) => shownCell(trial, c)) }))
      .filter(({ cells }) => words.every((word) => cells.join(" ").toLowerCase().includes(word)));
    const order = state.sort.down ? -1 : 1;
    rows.sort((a, b) => (a.key === null) - (b.key === null) || order * (typeof a.key === "number"
      && typeof b.key === "number" ? a.key - b.key : String(a.key).localeCompare(String(b.key))));
    for (const head of byId("trials").tHead.rows[0].cells)
      head.setAttribute("aria-sort", head.dataset.column !== state.sort.column ? "none"
        : state.sort.down ? "descending" : "ascending");
    const body = byId("trials").tBodies[0];
    body.replaceChildren(...rows.map(({ trial, cells }) => {
      const row = element("tr", { id: `trial-${trial.id}`, className: trial.id === state.chosen ? "chosen" : "" });
      cells.forEach((text, i) => {
        const cell = element("td", { className: data.columns[i].number ? "number" : "" });
        if (data.columns[i].name === "id") {
          const button = element("button", { type: "button" }, text);
          button.addEventListener("click", () => choose(trial.id, false));
          cell.append(button);
        } else cell.append(text);
        row.append(cell);
      });
      return row;
    }));
  }

  function choose(id, scroll) {
    state.chosen = state.chosen === id && !scroll ? null : id;
    if (scroll) byId("filter").value = "";
    update();
    const row = byId(`trial-${id}`);
    if (scroll && row) {
      row.scrollIntoView({ block: "center" });
      row.querySelector("button").focus({ preventScroll: true });
    }
  }

  document.documentElement.dataset.ready = "yes";
})();
