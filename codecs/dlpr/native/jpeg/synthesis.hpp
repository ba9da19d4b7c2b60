// Pixels of a JPEG image (docs/format section 16), libjpeg's integers. NumPy twin: codecs/dlpr/modes/jpeg/synthesis.py.
#pragma once
#include "jpeg/image.hpp"
#include <cstring>

namespace dlpr {

inline uint8_t jpeg_clamp8(int v) { return uint8_t(v < 0 ? 0 : v > 255 ? 255 : v); }

// One pass over the first index of d[8][8], eight columns at once. Sums fit in 32 bits (section 16), intermediate
// ones may wrap, hence unsigned.
inline void jpeg_idct_pass(const int32_t (*d)[8], int32_t (*out)[8], int shift) {
  for (int i = 0; i < 8; ++i) {
    auto u = [&](int k) { return uint32_t(d[k][i]); };
    const uint32_t z = (u(2) + u(6)) * 4433u;
    const uint32_t even2 = z - u(6) * 15137u, even3 = z + u(2) * 6270u;
    const uint32_t even0 = (u(0) + u(4)) << 13, even1 = (u(0) - u(4)) << 13;
    const uint32_t e0 = even0 + even3, e1 = even1 + even2, e2 = even1 - even2, e3 = even0 - even3;
    const uint32_t z5 = (u(7) + u(3) + u(5) + u(1)) * 9633u;
    const uint32_t z1 = 0u - (u(7) + u(1)) * 7373u, z2 = 0u - (u(5) + u(3)) * 20995u;
    const uint32_t z3 = z5 - (u(7) + u(3)) * 16069u, z4 = z5 - (u(5) + u(1)) * 3196u;
    const uint32_t o0 = u(1) * 12299u + z1 + z4, o1 = u(3) * 25172u + z2 + z3, o2 = u(5) * 16819u + z2 + z4,
                   o3 = u(7) * 2446u + z1 + z3;
    const uint32_t half = 1u << (shift - 1);
    out[0][i] = int32_t(e0 + o0 + half) >> shift, out[7][i] = int32_t(e0 - o0 + half) >> shift;
    out[1][i] = int32_t(e1 + o1 + half) >> shift, out[6][i] = int32_t(e1 - o1 + half) >> shift;
    out[2][i] = int32_t(e2 + o2 + half) >> shift, out[5][i] = int32_t(e2 - o2 + half) >> shift;
    out[3][i] = int32_t(e3 + o3 + half) >> shift, out[4][i] = int32_t(e3 - o3 + half) >> shift;
  }
}

// One block to 8x8 samples.
inline void jpeg_idct(const int16_t* q, const uint16_t* table, uint8_t* out, size_t stride) {
  uint64_t any = 0;
  for (int k = 0; k < 16; ++k) {
    uint64_t v;
    std::memcpy(&v, q + 4 * k, 8);
    any |= k ? v : v & ~uint64_t(0xFFFF);  // little-endian: the first value is the DC coefficient
  }
  auto product = [&](int k) { return std::min(std::max(int(q[k]) * int(table[k]), -16383), 16383); };
  if (!any) {
    const int ws = std::min(std::max(product(0) * 4, -32768), 32767);
    const uint8_t v = jpeg_clamp8(((ws + 16) >> 5) + 128);
    for (int y = 0; y < 8; ++y) std::memset(out + y * stride, v, 8);
    return;
  }
  int32_t a[8][8], b[8][8];
  for (int k = 0; k < 64; ++k) a[k / 8][k % 8] = product(k);
  jpeg_idct_pass(a, b, 11);
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 8; ++x) a[x][y] = std::min(std::max(b[y][x], -32768), 32767);
  jpeg_idct_pass(a, b, 18);
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 8; ++x) out[y * stride + x] = jpeg_clamp8(b[x][y] + 128);
}

// A component's plane [8 rows][8 columns of blocks].
inline void jpeg_plane(const JpegFields& f, int c, const int16_t* q, std::vector<uint8_t>& plane) {
  const int rows = f.rows(c), cols = f.cols(c);
  const size_t stride = size_t(cols) * 8;
  plane.resize(stride * rows * 8);
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < cols; ++x)
      jpeg_idct(q + (size_t(y) * cols + x) * 64, f.tables[c], plane.data() + y * 8 * stride + x * 8, stride);
}

// Row y of a chroma plane at full resolution, columns 0 .. 2 * cols - 1 (or cols), in `out`.
inline void jpeg_chroma_row(const JpegFields& f, const uint8_t* plane, size_t stride, int rows, int cols, int y,
                            uint8_t* out, int16_t* sums) {
  const int near = y / f.sv;
  const uint8_t* p = plane + near * stride;
  if (f.box) {
    for (int x = 0; x < cols * f.sh; ++x) out[x] = p[f.sh == 2 ? x >> 1 : x];
    return;
  }
  const int far = y & 1 ? std::min(near + 1, rows - 1) : std::max(near - 1, 0);
  const uint8_t* n = plane + far * stride;
  if (f.sh == 1) {
    const int bias = y & 1 ? 2 : 1;
    for (int x = 0; x < cols; ++x) out[x] = uint8_t((3 * p[x] + n[x] + bias) >> 2);
    return;
  }
  int16_t* s = sums + 1;
  if (f.sv == 2) {
    for (int x = 0; x < cols; ++x) s[x] = int16_t(3 * p[x] + n[x]);
  } else {
    for (int x = 0; x < cols; ++x) s[x] = p[x];
  }
  s[-1] = s[0], s[cols] = s[cols - 1];
  const int low = f.sv == 2 ? 8 : 1, high = f.sv == 2 ? 7 : 2, shift = f.sv == 2 ? 4 : 2;
  for (int x = 0; x < cols; ++x) {
    out[2 * x] = uint8_t((3 * s[x] + s[x - 1] + low) >> shift);
    out[2 * x + 1] = uint8_t((3 * s[x] + s[x + 1] + high) >> shift);
  }
}

// The window, [H][W][components]: red, green, blue, at positions `order` of each pixel.
inline void jpeg_synthesise(const JpegFields& f, const int16_t* const* q, uint8_t* out, const int order[3]) {
  std::vector<uint8_t> planes[3];
  for (int c = 0; c < f.components; ++c) jpeg_plane(f, c, q[c], planes[c]);
  const size_t stride0 = size_t(f.cols(0)) * 8;
  if (f.components == 1) {
    for (int y = 0; y < f.H; ++y)
      std::memcpy(out + size_t(y) * f.W, planes[0].data() + (f.phase_y + y) * stride0 + f.phase_x, f.W);
    return;
  }
  const size_t stride = size_t(f.cols(1)) * 8;
  int rows = f.rows(1) * 8, cols = f.cols(1) * 8;
  if (f.crop) rows = (f.phase_y + f.H + f.sv - 1) / f.sv, cols = (f.phase_x + f.W + f.sh - 1) / f.sh;
  std::vector<uint8_t> chroma[2];
  std::vector<int16_t> sums(size_t(cols) + 2);
  for (auto& row : chroma) row.resize(size_t(cols) * f.sh);
  for (int y = 0; y < f.H; ++y) {
    const uint8_t* p[3] = {planes[0].data() + (f.phase_y + y) * stride0 + f.phase_x, nullptr, nullptr};
    for (int c = 1; c < 3; ++c) {
      if (f.subsampled()) {
        jpeg_chroma_row(f, planes[c].data(), stride, rows, cols, f.phase_y + y, chroma[c - 1].data(), sums.data());
        p[c] = chroma[c - 1].data() + f.phase_x;
      } else {
        p[c] = planes[c].data() + (f.phase_y + y) * stride + f.phase_x;
      }
    }
    uint8_t* o = out + size_t(y) * f.W * 3;
    if (f.transform == 0) {
      for (int x = 0; x < f.W; ++x)
        for (int c = 0; c < 3; ++c) o[3 * x + order[c]] = p[c][x];
    } else {
      for (int x = 0; x < f.W; ++x) {
        const int l = p[0][x], cb = p[1][x] - 128, cr = p[2][x] - 128;
        o[3 * x + order[0]] = jpeg_clamp8(l + ((91881 * cr + 32768) >> 16));
        o[3 * x + order[1]] = jpeg_clamp8(l + ((-22554 * cb - 46802 * cr + 32768) >> 16));
        o[3 * x + order[2]] = jpeg_clamp8(l + ((116130 * cb + 32768) >> 16));
      }
    }
  }
}

}  // namespace dlpr
