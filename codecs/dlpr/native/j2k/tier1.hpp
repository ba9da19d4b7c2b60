// Coding passes over a code block (Part 1, Annex D), read or written with the same code: a decoder gives the bits, an
// encoder takes them from the magnitudes that are already there.
#pragma once
#include "j2k/mq.hpp"
#include <array>
#include <cstring>

namespace dlpr {

// Code-block styles (table A-19).
enum J2kStyle { kJ2kBypass = 1, kJ2kReset = 2, kJ2kTermAll = 4, kJ2kCausal = 8, kJ2kPredictable = 16, kJ2kSegSym = 32 };

// A word for each column of a stripe of four rows. Bits 0..17: significance of three columns by six rows, the stripe
// and one row above and below, bit 3 * row + column. From bit 18, with row r of the stripe shifted by 3 r: sign of the
// row above (18), of the row (19), refined (20), visited (21), sign of the row below (22).
constexpr uint32_t kSelf = 1u << 4, kAround = 0x1EF, kRefined = 1u << 20, kVisited = 1u << 21;
constexpr uint32_t kAllVisited = kVisited | kVisited << 3 | kVisited << 6 | kVisited << 9;
constexpr uint32_t kAllSelf = kSelf | kSelf << 3 | kSelf << 6 | kSelf << 9;

// Contexts of tables D-1 and D-2 by those bits.
struct Tier1Tables {
  uint8_t zero[4][512];  // by orientation and the 3 x 3 significances
  uint8_t sign[256];  // context << 1 | what the sign is xored with, by significance (0..3) and sign (4..7) of N W E S
  Tier1Tables() {
    for (int o = 0; o < 4; ++o)
      for (int i = 0; i < 512; ++i) {
        int h = (i >> 3 & 1) + (i >> 5 & 1), v = (i >> 1 & 1) + (i >> 7 & 1);
        const int d = (i & 1) + (i >> 2 & 1) + (i >> 6 & 1) + (i >> 8 & 1);
        if (o == 1) std::swap(h, v);
        int n;
        if (o == 3) {
          const int hv = h + v;
          n = d >= 3 ? 8 : d == 2 ? 6 + (hv >= 1) : d == 1 ? 3 + std::min(hv, 2) : std::min(hv, 2);
        } else {
          n = h == 2 ? 8 : h == 1 ? (v ? 7 : d ? 6 : 5) : v == 2 ? 4 : v == 1 ? 3 : std::min(d, 2);
        }
        zero[o][i] = uint8_t(n);
      }
    for (int i = 0; i < 256; ++i) {
      auto one = [&](int k) { return i >> k & 1 ? (i >> (k + 4) & 1 ? -1 : 1) : 0; };
      int v = std::max(-1, std::min(1, one(0) + one(3))), h = std::max(-1, std::min(1, one(1) + one(2)));
      const int flip = h < 0 || (h == 0 && v < 0);
      if (flip) h = -h, v = -v;
      const int n = h == 1 ? 12 + v : 9 + v;
      sign[i] = uint8_t(n << 1 | flip);
    }
  }
};

inline const Tier1Tables& tier1_tables() {
  static const Tier1Tables tables;
  return tables;
}

// A code block of up to 4096 coefficients: state of its passes.
class Tier1 {
 public:
  // Magnitudes and signs by stripe, column, row of the stripe; bit 31 is the sign.
  std::vector<uint32_t> value;

  void open(int height, int width, int orientation, int style) {
    h_ = height, w_ = width, stripes_ = (height + 3) / 4, style_ = style;
    zero_ = tier1_tables().zero[orientation];
    flags_.assign(size_t(stripes_ + 2) * (w_ + 2), 0);
    value.assign(size_t(stripes_) * w_ * 4, 0);
    mq_reset(context);
  }

  // One pass in plane p; type 0 significance, 1 refinement, 2 cleanup. An encoder finds the final values in `value`.
  template <class Coder>
  void pass(Coder& coder, int type, int p, bool raw) {
    Coder local = coder;  // in registers
    if (type == 0 && raw) significance<true>(local, p);
    else if (type == 0) significance<false>(local, p);
    else if (type == 1) refinement(local, p);
    else cleanup(local, p);
    coder = local;
  }

  void reset_contexts() { mq_reset(context); }

  uint32_t context[kMqContexts];

 private:
  uint32_t* row(int stripe) { return flags_.data() + size_t(stripe + 1) * (w_ + 2) + 1; }

  // The sign of a coefficient of row R that has become significant, and what its neighbours' words note of it.
  template <int R, bool Raw, class Coder>
  inline void become(Coder& coder, uint32_t* f, uint32_t& v, int p) {
    constexpr int s = 3 * R;
    uint32_t negative = Coder::kDecodes ? 0 : v >> 31;
    if (Raw) {
      negative = uint32_t(coder.code(context[0], int(negative)));
    } else {
      const uint32_t own = *f >> s;
      const uint32_t i = (own >> 1 & 1) | (own >> 2 & 2) | (own >> 3 & 4) | (own >> 4 & 8) |
                         (own >> (R ? 12 : 14) & 0x10) | (f[-1] >> s >> 14 & 0x20) | (f[1] >> s >> 13 & 0x40) |
                         (own >> 15 & 0x80);
      const uint32_t e = tables_->sign[i];
      negative = uint32_t(coder.code(context[e >> 1], int(negative ^ (e & 1)))) ^ (e & 1);
    }
    if (Coder::kDecodes) v = 1u << p | negative << 31;
    f[-1] |= 1u << (5 + s), f[1] |= 1u << (3 + s);
    *f |= kSelf << s | negative << (19 + s);
    if (R == 0 && !(style_ & kJ2kCausal)) {
      uint32_t* n = f - (w_ + 2);
      n[-1] |= 1u << 17, n[0] |= 1u << 16 | negative << 31, n[1] |= 1u << 15;
    }
    if (R == 3) {
      uint32_t* n = f + (w_ + 2);
      n[-1] |= 1u << 2, n[0] |= 1u << 1 | negative << 18, n[1] |= 1u;
    }
  }

  template <int R, bool Raw, class Coder>
  inline void significance_step(Coder& coder, uint32_t* f, uint32_t* v, int p) {
    const uint32_t near = *f >> (3 * R);
    if ((near & kSelf) || !(near & kAround)) return;
    if (coder.code(context[Raw ? 0 : zero_[near & kAround]], Coder::kDecodes ? 0 : int(v[R] >> p & 1)))
      become<R, Raw>(coder, f, v[R], p);
    *f |= kVisited << (3 * R);
  }

  template <bool Raw, class Coder>
  void significance(Coder& coder, int p) {
    for (int k = 0; k < stripes_; ++k) {
      uint32_t* f = row(k);
      uint32_t* v = value.data() + size_t(k) * w_ * 4;
      const int n = h_ - 4 * k;
      for (int x = 0; x < w_; ++x, ++f, v += 4) {
        if (!(*f & 0x3FFFF)) continue;  // nothing significant near
        significance_step<0, Raw>(coder, f, v, p);
        if (n > 1) significance_step<1, Raw>(coder, f, v, p);
        if (n > 2) significance_step<2, Raw>(coder, f, v, p);
        if (n > 3) significance_step<3, Raw>(coder, f, v, p);
      }
    }
  }

  template <int R, class Coder>
  inline void refinement_step(Coder& coder, uint32_t* f, uint32_t* v, int p) {
    const uint32_t near = *f >> (3 * R);
    if ((near & (kSelf | kVisited)) != kSelf) return;
    uint32_t& cx = context[near & kRefined ? 16 : near & kAround ? 15 : 14];
    const int bit = coder.code(cx, Coder::kDecodes ? 0 : int(v[R] >> p & 1));
    if (Coder::kDecodes) v[R] |= uint32_t(bit) << p;
    *f |= kRefined << (3 * R);
  }

  template <class Coder>
  void refinement(Coder& coder, int p) {
    for (int k = 0; k < stripes_; ++k) {
      uint32_t* f = row(k);
      uint32_t* v = value.data() + size_t(k) * w_ * 4;
      for (int x = 0; x < w_; ++x, ++f, v += 4) {
        if (!(*f & kAllSelf)) continue;
        refinement_step<0>(coder, f, v, p);
        refinement_step<1>(coder, f, v, p);
        refinement_step<2>(coder, f, v, p);
        refinement_step<3>(coder, f, v, p);
      }
    }
  }

  template <int R, class Coder>
  inline void cleanup_step(Coder& coder, uint32_t* f, uint32_t* v, int p) {
    const uint32_t near = *f >> (3 * R);
    if (near & (kSelf | kVisited)) return;
    if (coder.code(context[zero_[near & kAround]], Coder::kDecodes ? 0 : int(v[R] >> p & 1)))
      become<R, false>(coder, f, v[R], p);
  }

  template <class Coder>
  void cleanup(Coder& coder, int p) {
    for (int k = 0; k < stripes_; ++k) {
      uint32_t* f = row(k);
      uint32_t* v = value.data() + size_t(k) * w_ * 4;
      const int n = h_ - 4 * k;
      for (int x = 0; x < w_; ++x, ++f, v += 4) {
        int first = 0;
        if (n >= 4 && !(*f & (0x3FFFF | kAllVisited))) {  // run mode
          int r = 0;
          if (!Coder::kDecodes)
            while (r < 4 && !(v[r] >> p & 1)) ++r;
          if (!coder.code(context[17], r < 4)) continue;
          const int high = coder.code(context[18], r >> 1);
          r = high << 1 | coder.code(context[18], r & 1);
          if (r == 0) become<0, false>(coder, f, v[0], p);
          else if (r == 1) become<1, false>(coder, f, v[1], p);
          else if (r == 2) become<2, false>(coder, f, v[2], p);
          else become<3, false>(coder, f, v[3], p);
          first = r + 1;
        }
        if (first < 1) cleanup_step<0>(coder, f, v, p);
        if (first < 2 && n > 1) cleanup_step<1>(coder, f, v, p);
        if (first < 3 && n > 2) cleanup_step<2>(coder, f, v, p);
        if (first < 4 && n > 3) cleanup_step<3>(coder, f, v, p);
        *f &= ~kAllVisited;
      }
    }
    if (style_ & kJ2kSegSym)
      for (int bit : {1, 0, 1, 0}) coder.code(context[18], bit);
  }

  int h_ = 0, w_ = 0, stripes_ = 0, style_ = 0;
  const uint8_t* zero_ = nullptr;
  const Tier1Tables* tables_ = &tier1_tables();
  std::vector<uint32_t> flags_;
};

// Passes of segments: how many may share a terminated piece of codeword, and whether a pass is raw.
inline bool tier1_raw(int style, int planes, int type, int p) {
  return (style & kJ2kBypass) && type < 2 && p < planes - 4;
}
// The pass after which the segment that begins with pass `first` ends, at most (10 passes, then 2 raw and 1 coded).
inline int tier1_segment_passes(int style, int first) {
  if (style & kJ2kTermAll) return 1;
  if (!(style & kJ2kBypass)) return 1 << 20;
  if (first < 10) return 10 - first;
  return (first - 10) % 3 == 0 ? 2 : 1;
}

}  // namespace dlpr
