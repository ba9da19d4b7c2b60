// Streams of mode j2k (docs/format J1): steps, passes and coefficients, residual.
#pragma once
#include "j2k/coder.hpp"
#include "j2k/decode.hpp"
#include "j2k/synthesis.hpp"
#include <memory>

namespace dlpr {

constexpr int64_t kJ2kModePixels = 1 << 24;  // of a chunk
constexpr int64_t kJ2kModeBands = 1 << 16;

// Whether the mode takes images of this size; what the decoder allots follows from it.
inline bool j2k_mode_takes(const J2kFields& f) {
  return f.good() && int64_t(f.height()) * f.width() <= kJ2kModePixels &&
         int64_t(f.tile_rows()) * f.tile_cols() * j2k_tile_bands(f) <= kJ2kModeBands;
}

// An image's arrays on their way out of a lane.
struct J2kDecoded {
  size_t size = 0;  // of the lane
  J2kImage image;
  std::vector<int32_t*> q;
  std::vector<uint8_t*> passes, missing;
  static J2kNumbers allot(void* self, const J2kFields& f) {
    J2kDecoded& d = *static_cast<J2kDecoded*>(self);
    size_t blocks = 0;
    int64_t coded = 0;
    for (const J2kBand& b : j2k_bands(f)) {
      blocks += b.blocks();
      for (int row = 0, y0, x0, y1, x1; row < b.grid_rows; ++row)
        for (int col = 0; col < b.grid_cols; ++col) coded += b.block(row, col, &y0, &x0, &y1, &x1);
    }
    // a block has a bit at least, and no bit costs less than 1/1500
    if (size_t(coded) / 8192 > d.size || blocks > size_t(kJ2kMaxBlocks)) return {nullptr, nullptr, nullptr};
    d.image.allot(f);
    for (size_t i = 0; i < d.image.bands.size(); ++i) {
      d.q.push_back(d.image.q[i].get());
      d.passes.push_back(d.image.passes[i].get()), d.missing.push_back(d.image.missing[i].get());
    }
    return {d.q.data(), d.passes.data(), d.missing.data()};
  }
};

// Coefficients of a lane; the fields' steps are filled in. False: it is damaged.
inline bool j2k_read(J2kFields& f, const uint8_t* lane, size_t size, J2kDecoded& out) {
  out.size = size;
  return j2k_mode_takes(f) && j2k_coder().decode(f, lane, size, &J2kDecoded::allot, &out);
}

// Red, green, blue to the order of coding, in place.
inline void j2k_coding_order(uint8_t* pixels, size_t samples, int components) {
  if (components == 3)
    for (size_t i = 0; i < samples; i += 3) std::swap(pixels[i], pixels[i + 1]);
}

inline ResidualArea j2k_area(const J2kFields& f) { return {f.kept_height(), f.kept_width(), f.components, 0, 0}; }
inline size_t j2k_samples(const J2kFields& f) {
  return size_t(f.kept_height()) * size_t(f.kept_width()) * size_t(f.components);
}

struct J2kDecodeJob {
  J2kFields f;
  int tau = 0;
  bool lossy_only = false;
  const uint8_t *lane = nullptr, *residual = nullptr;
  size_t lane_size = 0, residual_size = 0;
  std::unique_ptr<uint8_t[]> out;  // [H][W][components], coding order
};

// What is wrong, or an empty string.
inline const char* j2k_decode_job(J2kDecodeJob& j) {
  J2kFields& f = j.f;
  std::vector<uint8_t> doubts;
  {
    J2kDecoded d;
    if (!j2k_read(f, j.lane, j.lane_size, d)) return "the lossy part is damaged";
    j.out.reset(new uint8_t[j2k_samples(f)]());
    if (!j.lossy_only && j.residual_size) doubts.resize(j2k_samples(f));
    j2k_synthesise(f, d.image.bands, d.q.data(), d.passes.data(), d.missing.data(), j.out.get(),
                   doubts.empty() ? nullptr : doubts.data());
  }
  const size_t samples = j2k_samples(f);
  j2k_coding_order(j.out.get(), samples, f.components);
  j2k_coding_order(doubts.data(), doubts.size(), f.components);
  if (j.lossy_only || j.residual_size == 0) return "";
  std::vector<int16_t> symbols(samples, 0);
  if (!j2k_coder().decode_residual(j2k_area(f), j.out.get(), doubts.data(), j.residual, j.residual_size,
                                   symbols.data()))
    return "the residual is damaged";
  const int step = 2 * j.tau + 1;
  for (size_t i = 0; i < samples; ++i) j.out[i] = uint8_t(std::min(std::max(j.out[i] + symbols[i] * step, 0), 255));
  return "";
}

struct J2kEncodeJob {
  J2kFields f;
  std::vector<J2kBand> bands;
  std::vector<int32_t*> q;  // only a decoder writes
  std::vector<uint8_t*> passes, missing;
  int tau = 0;
  double most = 1;             // share of samples with a residual above which nothing is coded
  const uint8_t* x = nullptr;  // [H][W][components], coding order
  std::vector<uint8_t> lane, residual, out;
  bool done = false;
};

inline void j2k_encode_job(J2kEncodeJob& j) {
  J2kFields& f = j.f;
  if (!j2k_mode_takes(f)) return;
  const size_t samples = j2k_samples(f);
  j.out.resize(samples);
  std::vector<uint8_t> doubts(samples);
  j2k_synthesise(f, j.bands, j.q.data(), j.passes.data(), j.missing.data(), j.out.data(), doubts.data());
  j2k_coding_order(j.out.data(), samples, f.components);
  const int step = 2 * j.tau + 1;
  std::vector<int16_t> symbols;
  size_t count = 0;
  for (size_t i = 0; i < samples; ++i) {
    if (j.x[i] == j.out[i]) continue;
    const int r = int(j.x[i]) - j.out[i], a = (std::abs(r) + j.tau) / step;
    if (!a) continue;
    if (symbols.empty()) symbols.assign(samples, 0);
    symbols[i] = int16_t(r < 0 ? -a : a), ++count;
  }
  if (double(count) > j.most * double(samples)) return;
  j.lane = j2k_coder().encode(f, {j.q.data(), j.passes.data(), j.missing.data()});
  if (j.lane.empty()) return;
  if (count) {
    j2k_coding_order(doubts.data(), samples, f.components);
    j.residual = j2k_coder().encode_residual(j2k_area(f), j.out.data(), doubts.data(), symbols.data());
    for (size_t i = 0; i < samples; ++i) j.out[i] = uint8_t(std::min(std::max(j.out[i] + symbols[i] * step, 0), 255));
  }
  j.done = true;
}

}  // namespace dlpr
