"use strict";
// The threshold explorer and the gallery. Numbers follow from the counts in the page and are formatted as in Python.
{
  const dash = "–";
  const write = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : dash);
  const formatCount = (value) => value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const share = (part, of) => (of ? part / of : NaN);

  const source = document.getElementById("explorer-data");
  const data = source && JSON.parse(source.textContent);

  // Hits and false alarms of every edge, in a blend in which the second member has a weight.
  function blend(joint, weight) {
    const { edges, top, cells } = data;
    const side = cells + 1;
    const middle = (cell) => (cell + 0.5) / cells;
    return [1, 0].map((label) => {
      const above = new Array(edges.length).fill(0);
      joint[label].forEach((pixels, cell) => {
        if (!pixels) return;
        const first = Math.floor(cell / side), second = cell % side;
        let score = NaN;
        if (first < cells && second < cells) score = (1 - weight) * middle(first) + weight * middle(second);
        else if (first < cells && weight < 1) score = middle(first);
        else if (second < cells && weight > 0) score = middle(second);
        if (Number.isNaN(score)) return;
        let low = 0, high = edges.length - 1;
        while (low < high) {
          const half = (low + high + 1) >> 1;
          if (edges[half] <= score * top) low = half;
          else high = half - 1;
        }
        above[low] += pixels;
      });
      for (let edge = edges.length - 2; edge >= 0; edge--) above[edge] += above[edge + 1];
      return above;
    });
  }

  function explore(card) {
    const facts = data.classes[card.dataset.place];
    const threshold = card.querySelector("[name=threshold]");
    const weight = card.querySelector("[name=weight]");
    const used = card.querySelector("button");
    let [hits, falses] = [facts.hits, facts.false];
    const set = (name, text) => card.querySelectorAll(`[data-is="${name}"]`).forEach((element) => { element.textContent = text; });

    function show() {
      const edge = Number(threshold.value);
      const hit = hits[edge], wrong = falses[edge], missed = facts.positives - hit;
      const at = write(data.edges[edge] / data.top, 3);
      set("threshold", at);
      threshold.setAttribute("aria-valuetext", at);
      const precision = share(hit, hit + wrong), recall = share(hit, facts.positives);
      set("precision", write(precision, 4));
      set("recall", write(recall, 4));
      set("dice", write(share(2 * hit, 2 * hit + wrong + missed), 4));
      set("iou", write(share(hit, hit + wrong + missed), 4));
      for (const [name, pixels] of Object.entries({ hits: hit, false: wrong, missed, mapped: hit + wrong })) {
        set(`${name}-px`, formatCount(pixels));
        if (data.hectares !== null) {
          const size = pixels * data.hectares;
          set(`${name}-ha`, `${size >= 100 ? formatCount(size) : write(size, 1)} ha`);
        }
      }
      const all = hit + wrong + missed;
      for (const [name, pixels] of [["missed", missed], ["hits", hit], ["false", wrong]])
        card.querySelector(`.bar .${name}`).style.width = `${100 * share(pixels, all) || 0}%`;
      const point = card.querySelector(".point");
      point.hidden = !(Number.isFinite(precision) && Number.isFinite(recall));
      if (!point.hidden) {
        point.style.left = `${100 * recall}%`;
        point.style.bottom = `${100 * precision}%`;
      }
    }

    function draw() {
      const points = hits.map((hit, edge) => [share(hit, facts.positives), share(hit, hit + falses[edge])]);
      card.querySelector(".mean").setAttribute("points", points
        .filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))
        .map(([x, y]) => `${(100 * x).toFixed(1)},${(100 - 100 * y).toFixed(1)}`).join(" "));
      card.querySelector(".marks").hidden = hits !== facts.hits;
      show();
    }

    threshold.addEventListener("input", show);
    threshold.disabled = false;
    if (!weight) return;
    weight.disabled = false;
    weight.addEventListener("input", () => {
      const second = Number(weight.value) / 100;
      [hits, falses] = blend(facts.joint, second);
      set("first", write(1 - second, 2));
      set("second", write(second, 2));
      used.hidden = false;
      draw();
    });
    used.addEventListener("click", () => {
      [hits, falses] = [facts.hits, facts.false];
      weight.value = Math.round(100 * facts.weight);
      set("first", write(1 - facts.weight, 2));
      set("second", write(facts.weight, 2));
      used.hidden = true;
      threshold.value = threshold.defaultValue;
      threshold.focus();
      draw();
    });
  }
  if (data) document.querySelectorAll(".explorer").forEach(explore);

  // What is folded opens where a link leads to it, and on paper.
  function unfold(hash) {
    const folded = hash.length > 1 && document.querySelector(`${hash} > .whole`);
    if (folded) folded.open = true;
  }
  document.querySelectorAll('a[href^="#"]').forEach((link) => link.addEventListener("click", () => unfold(link.hash)));
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((folded) => { folded.open = true; }));
  unfold(location.hash);

  const gallery = document.getElementById("gallery");
  if (gallery) {
    const scenes = [...gallery.querySelectorAll("figure")];
    const [text, fold, order] = ["text", "fold", "order"].map((name) => document.querySelector(`.sieve [name=${name}]`));
    const count = document.querySelector(".sieve output"), more = document.getElementById("more");
    const first = Number(gallery.dataset.first);
    let shown = first;
    function sieve() {
      const matches = scenes.filter((scene) => scene.dataset.find.includes(text.value.trim().toLowerCase())
        && (!fold.value || scene.dataset.folds.split(" ").includes(fold.value)));
      if (order.value === "best") matches.reverse();
      scenes.forEach((scene) => { scene.hidden = true; });
      matches.forEach((scene, place) => {
        scene.hidden = place >= shown;
        gallery.append(scene);
      });
      count.textContent = `${matches.length} of ${scenes.length}`;
      more.hidden = matches.length <= shown;
      more.textContent = `Show ${matches.length - shown} more`;
    }
    for (const input of [text, fold, order]) input.addEventListener("input", () => { shown = first; sieve(); });
    more.addEventListener("click", () => { shown = scenes.length; sieve(); });
    document.querySelector(".sieve").hidden = false;
    sieve();
  }
}
