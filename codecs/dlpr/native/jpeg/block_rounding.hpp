// Coefficients of a block whose samples are known exactly, where quantisation steps are near 1: rounding each by itself
// gets some wrong, and then a few samples come out a level off. Those next to them are tried.
#pragma once
#include "jpeg/image.hpp"
#include "jpeg/planes.hpp"
#include <cmath>

namespace dlpr {

class BlockRounding {
 public:
  explicit BlockRounding(const uint16_t* table) {
    const auto& m = dct().m;
    for (int k = 0; k < 64; ++k) {
      if (table[k] <= kLargestStep) places_[count_++] = k;
      for (int i = 0; i < 64; ++i) basis_[k][i] = m[k / 8][i / 8] * m[k % 8][i % 8] * float(table[k]);
    }
  }

  bool useful() const { return count_ >= 4; }  // of 64 places

  // target: samples, level 128 taken off; weight: 1 where they count, else 0. q: where to begin, natural order.
  void operator()(const float* target, const float* weight, int16_t* q) const {
    float r[64];  // what the samples are off, before rounding
    for (int i = 0; i < 64; ++i) r[i] = -target[i];
    for (int k = 0; k < 64; ++k)
      if (q[k])
        for (int i = 0; i < 64; ++i) r[i] += float(q[k]) * basis_[k][i];
    float cost = excess(r, weight);
    for (int round = 0; round < kRounds && cost > kRight; ++round) {
      // Away from what is off: for each place the one step that may help, and what is off then.
      float pull[64];
      for (int i = 0; i < 64; ++i) {
        const float d = std::fabs(r[i]) - 0.5f;
        pull[i] = d > 0 ? weight[i] * (r[i] > 0 ? d : -d) : 0.f;
      }
      float after[64], step[64];
      int best = -1;
      for (int n = 0; n < count_; ++n) {
        const float* b = basis_[places_[n]];
        float slope = 0;
        for (int i = 0; i < 64; ++i) slope += pull[i] * b[i];
        step[n] = slope > 0 ? -1.f : 1.f;
        after[n] = excess(r, weight, b, step[n]);
        if (best < 0 || after[n] < after[best]) best = n;
      }
      if (after[best] < cost - kRight) {
        cost = take(q, r, places_[best], step[best]) ? after[best] : 0;
        continue;
      }
      // Two at once, of those that cost least by themselves.
      int order[64];
      for (int n = 0; n < count_; ++n) order[n] = n;
      const int few = std::min(count_, kPairs);
      std::partial_sort(order, order + few, order + count_,
                        [&](int a, int b) { return after[a] != after[b] ? after[a] < after[b] : a < b; });
      float least = cost - kRight;
      int one = -1, two = -1;
      float sign = 1;
      for (int a = 0; a < few; ++a) {
        float with[64];
        for (int i = 0; i < 64; ++i) with[i] = r[i] + step[order[a]] * basis_[places_[order[a]]][i];
        for (int b = 0; b < few; ++b) {
          if (a == b) continue;
          for (float s : {1.f, -1.f}) {
            if (s > 0 && b < a && step[order[b]] > 0) continue;  // seen the other way round
            const float c = excess(with, weight, basis_[places_[order[b]]], s);
            if (c < least) least = c, one = order[a], two = order[b], sign = s;
          }
        }
      }
      if (one < 0) break;
      if (!take(q, r, places_[one], step[one]) || !take(q, r, places_[two], sign)) break;
      cost = least;
    }
  }

 private:
  static constexpr int kLargestStep = 2, kRounds = 40, kPairs = 8;
  static constexpr float kRight = 1e-3f;  // the decoder's integers are not exact either

  static float excess(const float* r, const float* weight) {
    float sum = 0;
    for (int i = 0; i < 64; ++i) {
      const float d = std::max(std::fabs(r[i]) - 0.5f, 0.f);
      sum += weight[i] * d * d;
    }
    return sum;
  }
  static float excess(const float* r, const float* weight, const float* b, float s) {
    float sum = 0;
    for (int i = 0; i < 64; ++i) {
      const float d = std::max(std::fabs(r[i] + s * b[i]) - 0.5f, 0.f);
      sum += weight[i] * d * d;
    }
    return sum;
  }
  bool take(int16_t* q, float* r, int k, float s) const {
    if (std::abs(q[k] + int(s)) > kJpegCoefficientMax) return false;
    q[k] = int16_t(q[k] + int(s));
    for (int i = 0; i < 64; ++i) r[i] += s * basis_[k][i];
    return true;
  }

  int count_ = 0, places_[64] = {};
  float basis_[64][64];
};

}  // namespace dlpr
