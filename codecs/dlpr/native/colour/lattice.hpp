// Colours that a decoder of YCbCr can give (docs/format/colour-layer.md, C2): from a triple of whole numbers to a
// pixel, exactly, and back. Python twin of the way to pixels: colour/lattice.py.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

namespace dlpr {

enum class Rounding : int { kNearest = 0, kFloor = 1, kCeil = 2, kTruncate = 3 };
enum class Products : int {
  kSum = 0,
  kEach = 1,
  kGreenOfRounded = 2
};  // what is rounded: the sum; each product; green is made of the rounded products

struct Lattice {
  int denominator = 65536;
  int luma = 65536, red = 91881, blue = 116130, green_blue = -22554, green_red = -46802;  // steps, over the denominator
  int offset = 0;                                                                         // of luma; chroma's is 128
  Rounding rounding = Rounding::kNearest;
  Products products = Products::kSum;

  bool good() const {
    for (int k : {luma, red, blue, green_blue, green_red})
      if (std::abs(k) > (1 << 18)) return false;
    return denominator >= 1 && denominator <= 65536 && offset >= 0 && offset <= 255 && int(rounding) >= 0 &&
           int(rounding) <= 3 && int(products) >= 0 && int(products) <= 2;
  }

  int divide(int n) const {
    switch (rounding) {
      case Rounding::kNearest: return floor_of(n + denominator / 2);
      case Rounding::kFloor: return floor_of(n);
      case Rounding::kCeil: return -floor_of(-n);
      default: return n / denominator;
    }
  }

  // Red, green, blue of a triple before they are limited to 0..255.
  void sums(int y, int cb, int cr, int rgb[3]) const {
    y -= offset, cb -= 128, cr -= 128;
    switch (products) {
      case Products::kSum:
        rgb[0] = divide(luma * y + red * cr), rgb[1] = divide(luma * y + green_blue * cb + green_red * cr),
        rgb[2] = divide(luma * y + blue * cb);
        break;
      case Products::kEach: {
        const int l = divide(luma * y);
        rgb[0] = l + divide(red * cr), rgb[1] = l + divide(green_blue * cb) + divide(green_red * cr),
        rgb[2] = l + divide(blue * cb);
        break;
      }
      case Products::kGreenOfRounded: {
        const int b = limited(divide(blue * cb)), r = limited(divide(red * cr));
        rgb[0] = divide(luma * y + red * cr), rgb[1] = divide(luma * y + green_blue * b + green_red * r),
        rgb[2] = divide(luma * y + blue * cb);
      }
    }
  }

  void pixel(int y, int cb, int cr, uint8_t rgb[3]) const {
    int s[3] = {};
    sums(y, cb, cr, s);
    for (int k = 0; k < 3; ++k) rgb[k] = uint8_t(std::min(std::max(s[k], 0), 255));
  }

  bool gives(int y, int cb, int cr, const uint8_t* rgb) const {
    uint8_t p[3];
    pixel(y, cb, cr, p);
    return p[0] == rgb[0] && p[1] == rgb[1] && p[2] == rgb[2];
  }

 private:
  static int limited(int v) { return std::min(std::max(v, -2047), 2047); }
  int floor_of(int n) const {
    const int q = n / denominator;
    return q * denominator > n ? q - 1 : q;
  }
};

// The way back, for an encoder: triples near the real-valued inverse.
class LatticeInverse {
 public:
  explicit LatticeInverse(const Lattice& l) : l_(l) {
    const double d = l.denominator, a = l.luma / d, r = l.red / d, b = l.blue / d;
    double gb = l.green_blue / d, gr = l.green_red / d;
    if (l.products == Products::kGreenOfRounded) gb *= b, gr *= r;
    a_ = a, r_ = r, b_ = b, gb_ = gb, gr_ = gr;
    bias_ = l.rounding == Rounding::kFloor ? 0.5 : l.rounding == Rounding::kCeil ? -0.5 : 0;
    // green = a y + gb cb + gr cr with cb = (blue - a y) / b, cr = (red - a y) / r
    const double of_luma = a * (1 - gb / b - gr / r);
    good_ = l.good() && a > 0.5 && r > 0.5 && b > 0.5 && of_luma > 0.1;
    if (good_) y_green_ = 1 / of_luma, y_blue_ = -gb / b / of_luma, y_red_ = -gr / r / of_luma;
  }

  bool good() const { return good_; }
  const Lattice& lattice() const { return l_; }

  // Luma, about; add the lattice's offset.
  double luma(const uint8_t* p) const {
    return y_green_ * (p[1] + bias_) + y_blue_ * (p[2] + bias_) + y_red_ * (p[0] + bias_) + l_.offset;
  }
  double cb(const uint8_t* p, double y) const { return (p[2] + bias_ - a_ * (y - l_.offset)) / b_ + 128; }
  double cr(const uint8_t* p, double y) const { return (p[0] + bias_ - a_ * (y - l_.offset)) / r_ + 128; }

  // The triple of a pixel; false if there is none. Pixels with a sample of 0 or 255 may have several.
  bool triple(const uint8_t* p, int t[3]) const {
    const double middle = luma(p);
    const int centre = int(std::floor(middle + 0.5));
    static const int around[5] = {0, -1, 1, -2, 2};
    for (int d : around) {
      const int y = centre + d;
      if (y < 0 || y > 255) continue;
      const int cr0 = int(std::floor(cr(p, y) + 0.5)), cb0 = int(std::floor(cb(p, y) + 0.5));
      for (int i = 0; i < 3; ++i) {
        const int v = cr0 + around[i];
        if (v < 0 || v > 255) continue;
        int s[3] = {};
        l_.sums(y, 128, v, s);
        if (limited8(s[0]) != p[0]) continue;
        for (int k = 0; k < 3; ++k) {
          const int u = cb0 + around[k];
          if (u < 0 || u > 255) continue;
          l_.sums(y, u, v, s);
          if (limited8(s[2]) == p[2] && limited8(s[1]) == p[1]) {
            t[0] = y, t[1] = u, t[2] = v;
            return true;
          }
        }
      }
    }
    return false;
  }

  // The luma nearest to `wish` that gives pixel p with these chroma samples; -1 if there is none.
  int luma_for(const uint8_t* p, int u, int v, int wish) const {
    int lo = 0, hi = 255;  // each channel is monotonous in luma
    for (int c = 0; c < 3; ++c) {
      const double chroma = c == 0 ? r_ * (v - 128) : c == 2 ? b_ * (u - 128) : gb_ * (u - 128) + gr_ * (v - 128);
      const double y = (p[c] + bias_ - chroma) / a_ + l_.offset;
      if (p[c] > 0) lo = std::max(lo, int(std::floor(y)) - 2);
      if (p[c] < 255) hi = std::min(hi, int(std::ceil(y)) + 2);
    }
    if (lo > hi) return -1;
    while (lo <= hi && !meets(lo, u, v, p, true)) {
      if (++lo > hi) return -1;
    }
    while (hi >= lo && !meets(hi, u, v, p, true)) --hi;
    if (lo > hi) return -1;
    const int y = std::min(std::max(wish, lo), hi);
    return meets(y, u, v, p, true) ? y : -1;
  }

  // The luma whose pixel is nearest to p with these chroma samples.
  int nearest_luma(const uint8_t* p, int u, int v, int wish) const {
    const int exact = luma_for(p, u, v, wish);
    if (exact >= 0) return exact;
    double centre = 0;
    int n = 0;
    for (int c = 0; c < 3; ++c) {
      if (p[c] == 0 || p[c] == 255) continue;
      const double chroma = c == 0 ? r_ * (v - 128) : c == 2 ? b_ * (u - 128) : gb_ * (u - 128) + gr_ * (v - 128);
      centre += (p[c] + bias_ - chroma) / a_ + l_.offset, ++n;
    }
    const int from = n ? int(std::floor(centre / n + 0.5)) : wish;
    int best = std::min(std::max(from, 0), 255), least = 1 << 30;
    for (int d = 0; d < 9; ++d) {
      const int y = from + (d & 1 ? -(d + 1) / 2 : d / 2);
      if (y < 0 || y > 255) continue;
      uint8_t q[3];
      l_.pixel(y, u, v, q);
      int cost = 0;
      for (int c = 0; c < 3; ++c) cost += 4 * std::abs(int(p[c]) - q[c]) + (p[c] != q[c]);
      if (cost < least) least = cost, best = y;
    }
    return best;
  }

 private:
  static int limited8(int v) { return std::min(std::max(v, 0), 255); }
  bool meets(int y, int u, int v, const uint8_t* p, bool) const { return l_.gives(y, u, v, p); }

  Lattice l_;
  bool good_ = false;
  double a_, r_, b_, gb_, gr_, bias_, y_green_ = 0, y_blue_ = 0, y_red_ = 0;
};

// Matrices that have a number in a stream, 1 .. kMatrices (docs/format/colour-layer.md, C2).
constexpr Lattice matrix_of(int denominator, int luma, int red, int blue, int green_blue, int green_red, int offset) {
  Lattice l;
  l.denominator = denominator, l.luma = luma, l.red = red, l.blue = blue, l.green_blue = green_blue,
  l.green_red = green_red, l.offset = offset;
  return l;
}
constexpr Lattice kMatrixTable[] = {
    matrix_of(65536, 65536, 91881, 116130, -22554, -46802, 0),  // JFIF (BT.601, full range) as in libjpeg and OpenSlide
    matrix_of(256, 256, 360, 452, -88, -184, 0),                // the same in 8 bits, coarse
    matrix_of(256, 256, 359, 454, -88, -183, 0),                // the same in 8 bits
    matrix_of(1000, 1000, 1402, 1772, -344, -714, 0),           // the same in thousandths
    matrix_of(256, 298, 409, 516, -100, -208, 16),              // BT.601, video range, 8 bits
    matrix_of(65536, 76309, 104597, 132201, -25675, -53279, 16),  // BT.601, video range, 16 bits
    matrix_of(65536, 65536, 103206, 121609, -12276, -30679, 0),   // BT.709, full range
    matrix_of(65536, 76309, 117489, 138438, -13975, -34925, 16),  // BT.709, video range
    matrix_of(10000, 13584, 18215, 22179, -1940, -5090, 0),       // PhotoYCC, chroma about 128
};
constexpr int kMatrices = int(sizeof kMatrixTable / sizeof kMatrixTable[0]);

}  // namespace dlpr
