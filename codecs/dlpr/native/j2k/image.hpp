// A JPEG 2000 image as the native code sees it (codecs/dlpr/modes/j2k/image.py and fields.py are the Python side).
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace dlpr {

constexpr int kJ2kMaxLevels = 32;
constexpr int kJ2kMaxPlanes = 30;  // of a code block
constexpr int64_t kJ2kMaxPixels = 1 << 26;
constexpr int64_t kJ2kMaxTiles = 65535;
constexpr int64_t kJ2kMaxBlocks = 1 << 22;
constexpr int64_t kJ2kMaxBands = 1 << 17;  // of all tiles
constexpr int kJ2kMaxMargin = 1023;        // rows or columns of an image beside its window

struct J2kComponent {
  int sv = 1, sh = 1;  // rows and columns of the reference grid for each sample
  int reversible = 1;  // 5/3; else 9/7
  int levels = 0;      // decompositions
  int guard = 0;       // guard bits
  int causal = 0;      // contexts do not look into the next stripe
  int points = 0;      // resolutions, from the lowest, whose coefficients stand for themselves (only of a window)
  int whole = 0;       // every resolution is rounded to whole numbers (only of a window)
  uint8_t block_h[kJ2kMaxLevels + 1] = {}, block_w[kJ2kMaxLevels + 1] = {};  // exponents, by resolution
  uint8_t exponent[3 * kJ2kMaxLevels + 1] = {};                              // by band: LL, then HL LH HH upwards
  uint16_t mantissa[3 * kJ2kMaxLevels + 1] = {};
};

// A band: where it lies, and what its code blocks say. Magnitudes have zeros in the planes that were not decoded.
struct J2kRect {
  int y0 = 0, x0 = 0, y1 = 0, x1 = 0;
  bool empty() const { return y1 <= y0 || x1 <= x0; }
};

struct J2kBand {
  int tile = 0, component = 0, resolution = 0, orientation = 0;  // 0 LL, 1 HL, 2 LH, 3 HH
  int y0 = 0, x0 = 0, y1 = 0, x1 = 0;                            // in the band's own coordinates
  int block_h = 6, block_w = 6;                                  // exponents; blocks begin at multiples of their size
  int planes = 0;                                                // M_b
  int exponent = 0, mantissa = 0;
  int grid_rows = 0, grid_cols = 0;
  J2kRect near, inner;  // what reaches the window and what lies in it, in the band's array; without one all of it
  int rows() const { return y1 - y0; }
  int cols() const { return x1 - x0; }
  size_t size() const { return size_t(rows()) * cols(); }
  size_t blocks() const { return size_t(grid_rows) * grid_cols; }
  // Where block (row, col) lies in the band's array.
  J2kRect block_edges(int row, int col) const {
    const int64_t by = int64_t((y0 >> block_h) + row) << block_h, bx = int64_t((x0 >> block_w) + col) << block_w;
    return {int(std::max<int64_t>(by, y0) - y0), int(std::max<int64_t>(bx, x0) - x0),
            int(std::min<int64_t>(by + (1 << block_h), y1) - y0), int(std::min<int64_t>(bx + (1 << block_w), x1) - x0)};
  }
  // Rows [t, b) and columns [l, r) of it that reach the window. False: none do.
  bool block(int row, int col, int* t, int* l, int* b, int* r) const {
    const J2kRect e = block_edges(row, col);
    *t = std::max(e.y0, near.y0), *l = std::max(e.x0, near.x0);
    *b = std::min(e.y1, near.y1), *r = std::min(e.x1, near.x1);
    return *t < *b && *l < *r;
  }
};

struct J2kFields {
  int top = 0, left = 0, bottom = 0, right = 0;  // image area on the reference grid
  int tile_top = 0, tile_left = 0, tile_h = 0, tile_w = 0;
  int components = 1;
  int transform = 0;  // RCT or ICT
  int colour = 0;     // 0 none, 1 to 3 YCbCr to be turned to RGB
  bool windowed = false;
  J2kRect window;  // what is kept of the area, if windowed
  J2kComponent comp[3];
  int height() const { return bottom - top; }  // of the area
  int width() const { return right - left; }
  J2kRect kept() const { return windowed ? window : J2kRect{top, left, bottom, right}; }
  int kept_height() const { return kept().y1 - kept().y0; }
  int kept_width() const { return kept().x1 - kept().x0; }
  int tile_rows() const { return int((int64_t(bottom) - tile_top + tile_h - 1) / tile_h); }
  int tile_cols() const { return int((int64_t(right) - tile_left + tile_w - 1) / tile_w); }
  int64_t band_count() const {
    int64_t n = 0;
    for (int k = 0; k < components; ++k) n += 3 * comp[k].levels + 1;
    return n * tile_rows() * tile_cols();
  }
  // Do bands lie and contexts look the same?
  bool same_bands(const J2kFields& o) const {
    bool same = top == o.top && left == o.left && bottom == o.bottom && right == o.right && tile_top == o.tile_top &&
                tile_left == o.tile_left && tile_h == o.tile_h && tile_w == o.tile_w && components == o.components &&
                windowed == o.windowed;
    for (int k = 0; same && k < components; ++k) {
      const J2kComponent &a = comp[k], &b = o.comp[k];
      same = a.sv == b.sv && a.sh == b.sh && a.levels == b.levels && a.guard == b.guard && a.causal == b.causal &&
             std::equal(a.block_h, a.block_h + a.levels + 1, b.block_h) &&
             std::equal(a.block_w, a.block_w + a.levels + 1, b.block_w) &&
             std::equal(a.exponent, a.exponent + 3 * a.levels + 1, b.exponent);
    }
    return same;
  }
  // Sizes within the limits; only then have tiles and bands been counted and may be laid out.
  bool good() const {
    bool ok = top >= 0 && left >= 0 && top < bottom && left < right && tile_h > 0 && tile_w > 0 && tile_top >= 0 &&
              tile_left >= 0 && tile_top <= top && tile_left <= left && int64_t(tile_top) + tile_h > top &&
              int64_t(tile_left) + tile_w > left && int64_t(height()) * width() <= kJ2kMaxPixels &&
              int64_t(tile_rows()) * tile_cols() <= kJ2kMaxTiles && (components == 1 || components == 3) &&
              (!transform || components == 3) && (!colour || components == 3) && colour >= 0 && colour <= 3;
    const J2kRect k = kept();
    ok = ok && k.y0 >= top && k.x0 >= left && k.y1 <= bottom && k.x1 <= right && !k.empty();
    ok = ok && std::max(std::max(k.y0 - top, k.x0 - left), std::max(bottom - k.y1, right - k.x1)) <= kJ2kMaxMargin;
    for (int k = 0; ok && k < components; ++k) {
      const J2kComponent& c = comp[k];
      ok = (c.sv == 1 || c.sv == 2 || c.sv == 4) && (c.sh == 1 || c.sh == 2 || c.sh == 4) && c.guard >= 0 &&
           c.guard <= 7 && c.points >= 0 && c.points <= (windowed ? c.levels + 1 : 0) &&
           (!c.whole || (windowed && !transform && !c.reversible)) && (k || (c.sv == 1 && c.sh == 1)) &&
           c.levels >= 0 && c.levels <= kJ2kMaxLevels;
      ok = ok && (!transform || (c.sv == 1 && c.sh == 1 && c.reversible == comp[0].reversible));
      for (int r = 0; ok && r <= c.levels; ++r) ok = c.block_h[r] <= 10 && c.block_w[r] <= 10;
      for (int b = 0; ok && b <= 3 * c.levels; ++b) ok = c.exponent[b] <= 31 && c.mantissa[b] <= 2047;
    }
    return ok && band_count() <= kJ2kMaxBands;
  }
};

// Views of the arrays of all bands, in the order of j2k_bands().
struct J2kArrays {
  std::vector<J2kBand> bands;
  std::vector<int32_t*> q;        // [rows, cols]
  std::vector<uint8_t*> passes;   // [grid rows, grid cols]
  std::vector<uint8_t*> missing;  // [grid rows, grid cols]
};

}  // namespace dlpr
