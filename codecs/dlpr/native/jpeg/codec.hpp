// Streams of mode jpeg (docs/format section 15): tables, coefficients, residual.
#pragma once
#include "jpeg/coder.hpp"
#include "jpeg/spend.hpp"
#include "jpeg/synthesis.hpp"
#include <memory>

namespace dlpr {

inline int table_code(const uint16_t* steps, const uint16_t* before) {
  if (before && std::equal(steps, steps + 64, before)) return kTableAgain;
  uint16_t t[64];
  for (int code = 1; code <= 200; ++code) {
    ijg_table(code, t);
    if (std::equal(steps, steps + 64, t)) return code;
  }
  return kTableExplicit;
}

constexpr int kOrderCoding[3] = {1, 0, 2};  // where red, green and blue stand in a pixel

struct JpegDecodeJob {
  JpegFields f;
  int tau = 0;
  bool lossy_only = false;
  const MixState* start = nullptr;  // the prior that the stream names
  const uint8_t *lossy = nullptr, *residual = nullptr;
  size_t lossy_size = 0, residual_size = 0;
  std::unique_ptr<uint8_t[]> out;  // [H][W][components], coding order
};

// Coefficients of a lossy part into `q`; what is wrong, or an empty string.
inline const char* jpeg_read_coefficients(JpegFields& f, const uint8_t* part, size_t size, const MixState* start,
                                          std::vector<int16_t>* q) {
  const size_t n = size_t(f.components);
  if (size < n + 1) return "the lossy part is damaged";
  for (size_t c = 0; c < n; ++c)
    if (part[c] > kTableExplicit || (part[c] == kTableAgain && c == 0)) return "the lossy part is damaged";
  size_t blocks = 0;
  for (int c = 0; c < f.components; ++c) blocks += f.blocks(c);
  // No bit costs less than 1/1500 and a block has four; of a thin chunk a third of the blocks is not coded.
  if (blocks / 8192 > size) return "the lossy part is damaged";
  for (int c = 0; c < f.components; ++c) q[c].assign(f.blocks(c) * 64, 0);
  int16_t* at[3] = {q[0].data(), q[1].data(), q[2].data()};
  return jpeg_coder().decode(f, part, part + n, size - n, start, at) ? "" : "the lossy part is damaged";
}

inline const char* jpeg_decode(JpegDecodeJob& j) {
  JpegFields& f = j.f;
  std::vector<int16_t> q[3];
  const char* wrong = jpeg_read_coefficients(f, j.lossy, j.lossy_size, j.start, q);
  if (*wrong) return wrong;
  const size_t samples = size_t(f.H) * f.W * f.components;
  j.out.reset(new uint8_t[samples]);
  const int16_t* at[3] = {q[0].data(), q[1].data(), q[2].data()};
  jpeg_synthesise(f, at, j.out.get(), kOrderCoding);
  if (j.lossy_only || j.residual_size == 0) return "";
  for (auto& v : q) std::vector<int16_t>().swap(v);
  std::vector<int16_t> symbols(samples, 0);
  if (!jpeg_coder().decode_residual(f, j.out.get(), j.residual, j.residual_size, symbols.data()))
    return "the residual is damaged";
  const int step = 2 * j.tau + 1;
  for (size_t i = 0; i < samples; ++i) j.out[i] = jpeg_clamp8(j.out[i] + symbols[i] * step);
  return "";
}

struct JpegEncodeJob {
  JpegFields f;
  const int16_t* q[3] = {};
  int tau = 0;
  const uint8_t* x = nullptr;  // [H][W][components], coding order
  const MixState* start = nullptr;
  double most = 1;  // share of samples with a residual above which nothing is coded
  std::vector<uint8_t> lossy, residual, out;
  bool done = false;
};

// Tables and coefficients.
inline std::vector<uint8_t> jpeg_lossy_part(JpegFields& f, const int16_t* const* q, const MixState* start) {
  std::vector<uint8_t> out;
  for (int c = 0; c < f.components; ++c) out.push_back(uint8_t(table_code(f.tables[c], c ? f.tables[c - 1] : nullptr)));
  int16_t* at[3] = {};
  for (int c = 0; c < f.components; ++c) at[c] = const_cast<int16_t*>(q[c]);  // only a decoder writes
  const std::vector<uint8_t> bytes = jpeg_coder().encode(f, out.data(), at, start, nullptr, nullptr);
  out.insert(out.end(), bytes.begin(), bytes.end());
  return out;
}

// The coefficients as they are, and a residual.
inline void jpeg_code(JpegEncodeJob& j) {
  JpegFields& f = j.f;
  const size_t samples = size_t(f.H) * f.W * f.components;
  j.out.resize(samples);
  jpeg_synthesise(f, j.q, j.out.data(), kOrderCoding);
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
  j.lossy = jpeg_lossy_part(f, j.q, j.start);
  if (count) {
    j.residual = jpeg_coder().encode_residual(f, j.out.data(), symbols.data());
    for (size_t i = 0; i < samples; ++i) j.out[i] = jpeg_clamp8(j.out[i] + symbols[i] * step);
  }
  j.done = true;
}

// Both forms at tau >= 1: with the coefficients given, or with others that spend the bound. The smaller is kept.
inline void jpeg_encode(JpegEncodeJob& j) {
  jpeg_code(j);
  if (!j.done || j.tau == 0) return;
  std::vector<uint8_t> made(j.out.size());
  jpeg_synthesise(j.f, j.q, made.data(), kOrderCoding);
  const SpentJpeg spent = JpegSpender(j.f, j.q, made.data(), j.x, j.tau, kOrderCoding).run();
  JpegEncodeJob other;
  other.f = spent.f, other.tau = j.tau, other.x = j.x, other.start = j.start;
  for (int c = 0; c < j.f.components; ++c) other.q[c] = spent.q[c].data();
  jpeg_code(other);
  if (other.lossy.size() + other.residual.size() >= j.lossy.size() + j.residual.size()) return;
  j.lossy.swap(other.lossy), j.residual.swap(other.residual), j.out.swap(other.out);
}

}  // namespace dlpr
