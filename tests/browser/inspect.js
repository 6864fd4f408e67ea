// The state and the pixels of a viewer, for the tests; `inspect(selector)` is undefined until the viewer is mounted.

window.inspect = selector => {
  const { lens } = document.querySelector(selector) || {};
  if (!lens) return undefined;
  const { view } = lens, pixels = canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const decoded = bitmap => {                       // not premultiplied and not smoothed: RGBA as decoded
    const canvas = Object.assign(document.createElement('canvas'), { width: bitmap.width, height: bitmap.height });
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  };
  return {
    get state() {
      const sets = { hidden: [...view.hidden], hiddenInCharts: [...view.hiddenInCharts], panels: [...view.panels] };
      return { ...view, ...sets, visibleMethods: lens.scene ? lens.visibleMethods() : [], frame: lens.frame, wanted: lens.wanted, scene: lens.scene?.id };
    },
    get stats() {
      const { cache, pending, failed } = lens.images, bytes = [...cache.values()].reduce((sum, entry) => sum + entry.bytes, 0);
      return { images: cache.size, bytes, pending: pending.size, failed: [...failed] };
    },
    show: lens.player.seek,
    readPixels: key => decoded(lens.images.bitmap(key)),
    readSlice: index => pixels(lens.root.querySelectorAll('.lens-slice canvas')[index]),
    readMap: index => pixels(lens.root.querySelectorAll('.lens-map canvas')[index]),
    readFigure: () => pixels(lens.figure.make()),
    readTile: index => pixels(lens.root.querySelectorAll('.lens-tile canvas')[index]),
    readValue: (key, x, y) => lens.overlay() && lens.featureMaps.valueAt(lens.overlay(), key, [x, y]),
  };
};
