// A JPEG image as the native code sees it (docs/format section 15; codecs/dlpr/modes/jpeg/image.py is the Python side).
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace dlpr {

constexpr int kJpegCoefficientMax = 2047;

struct JpegFields {
  int H = 0, W = 0, phase_y = 0, phase_x = 0;
  int transform = 0;      // 0 none, 1 YCbCr
  int sv = 1, sh = 1;     // size of component 0 relative to the others
  int box = 0, crop = 0;  // repetition instead of triangle filters; chroma cut at the window's far edges
  int components = 1;
  uint16_t tables[3][64] = {};
  int mcu_rows() const { return (phase_y + H + 8 * sv - 1) / (8 * sv); }
  int mcu_cols() const { return (phase_x + W + 8 * sh - 1) / (8 * sh); }
  int rows(int c) const { return mcu_rows() * (c ? 1 : sv); }
  int cols(int c) const { return mcu_cols() * (c ? 1 : sh); }
  size_t blocks(int c) const { return size_t(rows(c)) * cols(c); }
  bool subsampled() const { return sv * sh > 1; }
  // Rows and columns of blocks of component c that the window touches or that upsampling may read.
  int first_row(int c) const { return c == 0 ? phase_y / 8 : 0; }
  int first_col(int c) const { return c == 0 ? phase_x / 8 : 0; }
  int end_row(int c) const { return c == 0 ? (phase_y + H + 7) / 8 : rows(c); }
  int end_col(int c) const { return c == 0 ? (phase_x + W + 7) / 8 : cols(c); }
  bool good() const {
    bool ok = H >= 1 && W >= 1 && int64_t(H) * W <= (1 << 26) && (components == 1 || components == 3) &&
              (transform == 0 || transform == 1) && (sv == 1 || sv == 2) && (sh == 1 || sh == 2) && phase_y >= 0 &&
              phase_y < 8 * sv && phase_x >= 0 && phase_x < 8 * sh && (transform == 0 || components == 3) &&
              (transform == 1 || !subsampled());
    for (int c = 0; ok && c < components; ++c)
      for (int k = 0; k < 64; ++k) ok = ok && tables[c][k] >= 1 && tables[c][k] <= 255;
    return ok;
  }
};

}  // namespace dlpr
