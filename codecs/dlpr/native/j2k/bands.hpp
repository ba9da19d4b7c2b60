// Bands, code blocks and precincts of a JPEG 2000 image (Part 1, Annex B).
#pragma once
#include "j2k/image.hpp"
#include <cstddef>

namespace dlpr {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t ceil_shift(int64_t a, int s) { return s > 40 ? (a > 0) : (a + (int64_t(1) << s) - 1) >> s; }

// A tile on the reference grid.
inline J2kRect j2k_tile(const J2kFields& f, int tile) {
  const int64_t row = tile / f.tile_cols(), col = tile % f.tile_cols();
  J2kRect r;
  r.y0 = int(std::max<int64_t>(f.tile_top + row * f.tile_h, f.top));
  r.x0 = int(std::max<int64_t>(f.tile_left + col * f.tile_w, f.left));
  r.y1 = int(std::min<int64_t>(f.tile_top + (row + 1) * f.tile_h, f.bottom));
  r.x1 = int(std::min<int64_t>(f.tile_left + (col + 1) * f.tile_w, f.right));
  return r;
}

// The same in samples of a component, at a resolution.
inline J2kRect j2k_resolution(const J2kFields& f, const J2kRect& tile, int component, int resolution) {
  const J2kComponent& c = f.comp[component];
  const int down = c.levels - resolution;
  J2kRect r;
  r.y0 = int(ceil_shift(ceil_div(tile.y0, c.sv), down)), r.x0 = int(ceil_shift(ceil_div(tile.x0, c.sh), down));
  r.y1 = int(ceil_shift(ceil_div(tile.y1, c.sv), down)), r.x1 = int(ceil_shift(ceil_div(tile.x1, c.sh), down));
  return r;
}

// One axis of what reaches the window: low and high values of a resolution step, in coordinates of their bands.
struct J2kReach {
  int low[kJ2kMaxLevels][2], high[kJ2kMaxLevels][2];  // by decompositions behind the samples, less one

  // Samples [first, end) are kept of [start, stop). A value depends on low values at most three places away and on high
  // ones at most four (5/3: one and two); what is mirrored lies nearer.
  void find(int64_t first, int64_t end, int64_t start, int64_t stop, int levels, bool reversible) {
    const int before = reversible ? 0 : 2, behind = reversible ? 2 : 4;
    for (int d = 0; d < levels; ++d) {
      const bool none = first >= end;
      high[d][0] = none ? 0 : int(std::max((first - before - 2) >> 1, start >> 1));
      high[d][1] = none ? 0 : int(std::min((end + behind) >> 1, stop >> 1));
      start = (start + 1) >> 1, stop = (stop + 1) >> 1;
      if (!none) first = std::max((first - before) >> 1, start), end = std::min((end + behind) >> 1, stop);
      low[d][0] = none ? 0 : int(first), low[d][1] = none ? 0 : int(end);
    }
  }
};

// What of a component of a tile reaches the window: samples, then rows and columns of its bands.
struct J2kNear {
  J2kRect samples;
  J2kReach rows, cols;

  J2kNear(const J2kFields& f, const J2kRect& tile, const J2kComponent& c) {
    const J2kRect k = f.kept();
    interval(tile.y0, tile.y1, k.y0, k.y1, c.sv, &samples.y0, &samples.y1);
    interval(tile.x0, tile.x1, k.x0, k.x1, c.sh, &samples.x0, &samples.x1);
    if (!c.levels) return;
    rows.find(samples.y0, samples.y1, ceil_div(tile.y0, c.sv), ceil_div(tile.y1, c.sv), c.levels, c.reversible);
    cols.find(samples.x0, samples.x1, ceil_div(tile.x0, c.sh), ceil_div(tile.x1, c.sh), c.levels, c.reversible);
  }

  // The part of a band, in its array.
  J2kRect of(const J2kBand& b, int levels) const {
    if (!levels) return {samples.y0 - b.y0, samples.x0 - b.x0, samples.y1 - b.y0, samples.x1 - b.x0};
    const int d = b.resolution ? levels - b.resolution : levels - 1;
    const int* y = b.orientation >> 1 ? rows.high[d] : rows.low[d];
    const int* x = b.orientation & 1 ? cols.high[d] : cols.low[d];
    return {std::max(y[0] - b.y0, 0), std::max(x[0] - b.x0, 0), y[1] - b.y0, x[1] - b.x0};
  }

 private:
  static void interval(int start, int stop, int first, int end, int s, int* a, int* b) {
    const int y0 = int(ceil_div(start, s)), y1 = int(ceil_div(stop, s));
    first = std::max(first, start), end = std::min(end, stop);
    *a = *b = y0;
    if (first >= end || y0 >= y1) return;
    *a = std::min(std::max(first / s, y0), y1 - 1);
    *b = std::min(std::max((end - 1) / s, y0), y1 - 1) + 1;
  }
};

// All bands by tile, component, resolution, orientation.
inline std::vector<J2kBand> j2k_bands(const J2kFields& f) {
  std::vector<J2kBand> out;
  const int tiles = f.tile_rows() * f.tile_cols();
  for (int t = 0; t < tiles; ++t) {
    const J2kRect tile = j2k_tile(f, t);
    for (int k = 0; k < f.components; ++k) {
      const J2kComponent& c = f.comp[k];
      const int64_t y0 = ceil_div(tile.y0, c.sv), x0 = ceil_div(tile.x0, c.sh);
      const int64_t y1 = ceil_div(tile.y1, c.sv), x1 = ceil_div(tile.x1, c.sh);
      const J2kNear near(f, tile, c);
      int place = 0;
      for (int r = 0; r <= c.levels; ++r) {
        const int depth = r ? c.levels - r + 1 : c.levels;
        for (int o = r ? 1 : 0; o <= (r ? 3 : 0); ++o, ++place) {
          const int64_t half = depth ? int64_t(1) << (depth - 1) : 0;
          const int64_t dy = o >> 1 ? half : 0, dx = o & 1 ? half : 0;
          J2kBand b;
          b.tile = t, b.component = k, b.resolution = r, b.orientation = o;
          auto edge = [&](int64_t v, int64_t d) { return v <= d ? 0 : int(ceil_shift(v - d, depth)); };
          b.y0 = edge(y0, dy), b.x0 = edge(x0, dx), b.y1 = edge(y1, dy), b.x1 = edge(x1, dx);
          b.block_h = c.block_h[r], b.block_w = c.block_w[r];
          b.exponent = c.exponent[place], b.mantissa = c.mantissa[place];
          b.planes = std::max(c.guard + b.exponent - 1, 0);
          if (b.rows() > 0 && b.cols() > 0) {
            b.grid_rows = ((b.y1 - 1) >> b.block_h) - (b.y0 >> b.block_h) + 1;
            b.grid_cols = ((b.x1 - 1) >> b.block_w) - (b.x0 >> b.block_w) + 1;
          }
          b.near = b.inner = {0, 0, b.rows(), b.cols()};
          if (f.windowed) {
            const J2kRect& s = near.samples;
            b.near = near.of(b, c.levels);
            b.inner = {edge(s.y0, dy) - b.y0, edge(s.x0, dx) - b.x0, edge(s.y1, dy) - b.y0, edge(s.x1, dx) - b.x0};
          }
          out.push_back(b);
        }
      }
    }
  }
  return out;
}

// Number of bands of a tile, and of the first one of a component and resolution in it.
inline int j2k_tile_bands(const J2kFields& f) {
  int n = 0;
  for (int k = 0; k < f.components; ++k) n += 3 * f.comp[k].levels + 1;
  return n;
}
inline int j2k_first_band(const J2kFields& f, int component, int resolution) {
  int n = 0;
  for (int k = 0; k < component; ++k) n += 3 * f.comp[k].levels + 1;
  return n + (resolution ? 3 * resolution - 2 : 0);
}

}  // namespace dlpr
