// Geometry of the masked context M_7^3 inside one patch (docs/format section 6).
//
// A patch is decoded in steps s = x + 2y; every tap below belongs to an earlier step, so all pixels of one
// step can be computed at once. Taps that fall outside the patch follow fixed rules on decoded pixels only:
//   above the patch            the chunk's base colour
//   left of row y              the first pixel of row y-1 (the base colour for row 0)
//   right of row y             the last pixel of row y
#pragma once
#include "networks/layers.hpp"
#include <cstdint>
#include <cstring>
#include <vector>

namespace dlpr {

constexpr int kChannels = 3;  // coding order: 0 = green, 1 = red, 2 = blue
constexpr int kTaps = 22;     // positions of M_7^3, nearest first
constexpr int kTapValues = kTaps * kChannels;
constexpr int kNear = 11;      // positions whose residuals the network sees
constexpr int kTrunk = 24;     // channels of the synthesis trunk at half resolution
constexpr int kLossyTaps = 5;  // positions of x~ around the pixel
// feature vector of one pixel, int16, one unit = 1/64
constexpr int kFeatTaps = 0;
constexpr int kFeatNear = kFeatTaps + kTapValues;
constexpr int kFeatPred = kFeatNear + kNear * 2 * kChannels;
constexpr int kFeatLossy = kFeatPred + 1;
constexpr int kFeatTrunk = kFeatLossy + kLossyTaps * kChannels;
constexpr int kFeatures = kFeatTrunk + kTrunk;  // 172
static_assert(kFeatures == 172, "the format fixes 172 features");

constexpr int kTapDy[kTaps] = {0, -1, -1, -1, 0, -2, -2, -2, -1, -2, -2, 0, -3, -1, -3, -3, -2, -2, -3, -3, -3, -3};
constexpr int kTapDx[kTaps] = {-1, 0, -1, 1, -2, 0, -1, 1, -2, -2, 2, -3, 0, -3, -1, 1, -3, 3, -2, 2, -3, 3};
constexpr int kNearDy[kNear] = {0, -1, -1, -1, 0, -2, -2, -2, -1, -2, -2};
constexpr int kNearDx[kNear] = {-1, 0, -1, 1, -2, 0, -1, 1, -2, -2, 2};
// order in which the linear stage of channel c takes the channels of one tap position: its own first
constexpr int kTapChannel[3][3] = {{0, 1, 2}, {1, 0, 2}, {2, 0, 1}};

// Reconstructed samples of one patch with their border, interleaved by channel.
struct PatchSamples {
  int h, w, stride;
  std::vector<int16_t> data;
  PatchSamples(int h_, int w_, const uint8_t base[3])
      : h(h_), w(w_), stride((w_ + 6) * 3), data(size_t(h_ + 3) * (w_ + 6) * 3 + 33, 0) {
    for (size_t i = 0; i < size_t(h_ + 3) * (w_ + 6) * 3; i += 3)
      for (int c = 0; c < 3; ++c) data[i + c] = base[c];
  }
  int16_t* at(int y, int x) { return data.data() + size_t(y + 3) * stride + (x + 3) * 3; }
  const int16_t* at(int y, int x) const { return data.data() + size_t(y + 3) * stride + (x + 3) * 3; }
  // Repeat a pixel in the border that shows it.
  void complete(int y, int x) {
    if (x > 0 && x < w - 1) return;
    int16_t* p = at(y, x);
    const int16_t v[3] = {p[0], p[1], p[2]};
    if (x == w - 1)
      for (int k = 1; k <= 3; ++k)
        for (int c = 0; c < 3; ++c) p[3 * k + c] = v[c];
    if (x == 0 && y + 1 < h) {
      int16_t* q = at(y + 1, -3);
      for (int k = 0; k < 3; ++k)
        for (int c = 0; c < 3; ++c) q[3 * k + c] = v[c];
    }
  }
};

// Residuals of the linear stage (1/16 level) and their log magnitudes, with a border of zeros.
struct PatchResiduals {
  int h, w, stride;
  std::vector<int16_t> data;
  PatchResiduals(int h_, int w_) : h(h_), w(w_), stride((w_ + 4) * 6), data(size_t(h_ + 2) * (w_ + 4) * 6, 0) {}
  int16_t* at(int y, int x) { return data.data() + size_t(y + 2) * stride + (x + 2) * 6; }
  const int16_t* at(int y, int x) const { return data.data() + size_t(y + 2) * stride + (x + 2) * 6; }
};

constexpr int kLogEntries = kPredMax + 1;  // log_table[a] = round(64 log2(1 + a/16)), a = |e| in 1/16 level

// Where the kernels keep each feature: taps and near positions in the order of the samples in memory, so that a pixel's
// window is copied row by row. Weights are laid out the same way (PixelNet); the format's order is that of the index.
struct FeaturePlaces {
  int at[kFeatures];
  FeaturePlaces() {
    for (int i = 0; i < kFeatures; ++i) at[i] = i;
    constexpr int kTapRow[4] = {57, 42, 21, 0};  // first value of rows 0, -1, -2, -3
    constexpr int kNearRow[3] = {54, 30, 0};     // of rows 0, -1, -2
    for (int t = 0; t < kTaps; ++t)
      for (int c = 0; c < 3; ++c) at[kFeatTaps + 3 * t + c] = kFeatTaps + kTapRow[-kTapDy[t]] + (kTapDx[t] + 3) * 3 + c;
    for (int t = 0; t < kNear; ++t)
      for (int c = 0; c < 6; ++c)
        at[kFeatNear + 6 * t + c] = kFeatNear + kNearRow[-kNearDy[t]] + (kNearDx[t] + 2) * 6 + c;
    constexpr int kLossyPlace[kLossyTaps] = {0, 1, 3, 4, 2};  // of (0,0) (0,1) (1,0) (1,1) (1,-1)
    for (int t = 0; t < kLossyTaps; ++t)
      for (int c = 0; c < 3; ++c) at[kFeatLossy + 3 * t + c] = kFeatLossy + 3 * kLossyPlace[t] + c;
  }
};
inline const FeaturePlaces kFeatPlace;

// The part of a pixel's feature vector that comes from decoded pixels (everything but x~ and the trunk), in kernel
// order. pred0 = the linear stage's prediction for channel 0, in 1/16 level.
inline void causal_features(const Kernels& kn, const PatchSamples& s, const PatchResiduals& r, int y, int x, int pred0,
                            int16_t base[4], int16_t* f) {
  kn.causal(s.at(y, x), s.stride, r.at(y, x), r.stride, base, f);
  f[kFeatPred] = int16_t(clampi(4 * pred0 - 64 * base[0], -kActMax, kActMax));
}

// With one channel the features of all three are copies: the kernels see each once, and weights are the copies' sums.
// Order: taps, near positions (residual, log), prediction, a zero, x~, trunk, a zero; the first part alone without
// lossy layer.
constexpr int kGreyNear = kTaps, kGreyPred = kGreyNear + 2 * kNear, kGreyLossy = kGreyPred + 2;
constexpr int kGreyTrunk = kGreyLossy + kLossyTaps * kChannels, kGreyFeatures = kGreyTrunk + kTrunk + 1;
static_assert(kGreyLossy % 2 == 0 && kGreyFeatures % 2 == 0, "features are taken in pairs");

// Where feature i of the format's order stands with one channel.
inline int grey_place(int i) {
  if (i >= kFeatTrunk) return kGreyTrunk + i - kFeatTrunk;
  if (i >= kFeatLossy) return kGreyLossy + kFeatPlace.at[i] - kFeatLossy;
  if (i == kFeatPred) return kGreyPred;
  const int at = kFeatPlace.at[i];
  if (at < kFeatNear) return at / 3;
  return kGreyNear + (at - kFeatNear) / 6 * 2 + ((at - kFeatNear) % 6 >= 3);
}

// causal_features with one channel.
inline void grey_features(const PatchSamples& s, const PatchResiduals& r, int y, int x, int pred0, int16_t* base,
                          int16_t* f) {
  const int16_t* p = s.at(y, x);
  const int b = (p[-3] + p[-s.stride] + 1) >> 1;
  *base = int16_t(b);
  constexpr int kPositions[4] = {7, 7, 5, 3};  // of rows -3 .. 0
  for (int row = 0; row < 4; ++row) {
    const int16_t* a = p - (3 - row) * s.stride - 9;
    for (int k = 0; k < kPositions[row]; ++k) *f++ = int16_t(4 * (a[3 * k] - b));
  }
  const int16_t* e = r.at(y, x);
  constexpr int kNearPositions[3] = {5, 4, 2};  // of rows -2 .. 0
  for (int row = 0; row < 3; ++row) {
    const int16_t* a = e - (2 - row) * r.stride - 12;
    for (int k = 0; k < kNearPositions[row]; ++k) *f++ = a[6 * k], *f++ = a[6 * k + 3];
  }
  *f++ = int16_t(clampi(4 * pred0 - 64 * b, -kActMax, kActMax));
  *f = 0;
}

}  // namespace dlpr
