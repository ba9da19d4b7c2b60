// Bands, code blocks and precincts of a JPEG 2000 image (Part 1, Annex B).
#pragma once
#include "j2k/image.hpp"
#include <cstddef>

namespace dlpr {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t ceil_shift(int64_t a, int s) { return s > 40 ? (a > 0) : (a + (int64_t(1) << s) - 1) >> s; }

struct J2kRect {
  int y0 = 0, x0 = 0, y1 = 0, x1 = 0;
  bool empty() const { return y1 <= y0 || x1 <= x0; }
};

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
