"use strict";
(async () => {
  const packed = document.getElementById("plotly").textContent.trim();
  if (!packed) return;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = [];
  const draw = async (plot) => {
    const { data, layout } = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    layout.font.color = colour("--text");
    await Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false });
    drawn.push(plot);
  };
  // Numbers at the end of their range are too much for some kinds of figures, which is no reason to draw no other.
  const failed = (plot, error) => {
    plot.className = "trouble";
    plot.textContent = "It could not be drawn: " + error;
  };
  try {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const library = document.createElement("script");
    library.textContent = await new Response(stream).text();
    document.head.append(library);
    for (const plot of plots) {
      await draw(plot).catch((error) => failed(plot, error));
      // One after the other: the page can be read and scrolled meanwhile.
      await new Promise((done) => setTimeout(done, 0));
    }
  } catch (error) {
    const trouble = document.getElementById("trouble");
    trouble.textContent = "The figures could not be drawn (" + error + "); a browser of 2023 or later can.";
    trouble.hidden = false;
    return;
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of drawn) Plotly.relayout(plot, { "font.color": colour("--text") });
  });
})();
