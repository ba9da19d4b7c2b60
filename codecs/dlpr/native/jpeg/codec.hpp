// Streams of mode jpeg (docs/format section 15): tables, coefficients, residual.
#pragma once
#include "jpeg/residual.hpp"
#include <memory>

namespace dlpr {

constexpr uint8_t kIjgLuma[64] = {16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,
                                  14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,
                                  18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,
                                  49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99};
constexpr uint8_t kIjgChroma[64] = {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
                                    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
                                    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
                                    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99};
constexpr int kTableAgain = 0, kTableExplicit = 201;  // 1..100 luma, 101..200 chroma at quality 1..100

inline void ijg_table(int code, uint16_t* steps) {
  const int quality = code > 100 ? code - 100 : code, scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  const uint8_t* base = code > 100 ? kIjgChroma : kIjgLuma;
  for (int k = 0; k < 64; ++k) steps[k] = uint16_t(std::min(std::max((base[k] * scale + 50) / 100, 1), 255));
}

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
  const uint8_t *lossy = nullptr, *residual = nullptr;
  size_t lossy_size = 0, residual_size = 0;
  std::unique_ptr<uint8_t[]> out;  // [H][W][components], coding order
};

// Codes of the tables, a byte each; then the lane. Steps that are explicit are the lane's.
template <class Coder>
bool code_tables(const uint8_t* codes, JpegFields& f, CoefficientCoder<Coder>& coder) {
  for (int c = 0; c < f.components; ++c) {
    if (codes[c] == kTableExplicit) {
      if (!coder.table(f.tables[c])) return false;
    } else if (codes[c] == kTableAgain) {
      std::copy_n(f.tables[c - 1], 64, f.tables[c]);
    } else {
      ijg_table(codes[c], f.tables[c]);
    }
  }
  return true;
}

// Coefficients of a lossy part into `q`; what is wrong, or an empty string.
inline const char* jpeg_read_coefficients(JpegFields& f, const uint8_t* part, size_t size, std::vector<int16_t>* q) {
  const size_t n = size_t(f.components);
  if (size < n + 1) return "the lossy part is damaged";
  for (size_t c = 0; c < n; ++c)
    if (part[c] > kTableExplicit || (part[c] == kTableAgain && c == 0)) return "the lossy part is damaged";
  size_t blocks = 0;
  for (int c = 0; c < f.components; ++c) blocks += f.blocks(c);
  if (blocks / 1024 > size)
    return "the lossy part is damaged";  // no bit costs less than 1/1500, no block has fewer than 13
  for (int c = 0; c < f.components; ++c) q[c].assign(f.blocks(c) * 64, 0);
  int16_t* at[3] = {q[0].data(), q[1].data(), q[2].data()};
  BitDecoder lane(part + n, size - n);
  CoefficientCoder<BitDecoder> coder(lane, f);
  return code_tables(part, f, coder) && coder.run(at) && lane.finished() ? "" : "the lossy part is damaged";
}

inline const char* jpeg_decode(JpegDecodeJob& j) {
  JpegFields& f = j.f;
  std::vector<int16_t> q[3];
  const char* wrong = jpeg_read_coefficients(f, j.lossy, j.lossy_size, q);
  if (*wrong) return wrong;
  const size_t samples = size_t(f.H) * f.W * f.components;
  j.out.reset(new uint8_t[samples]);
  const int16_t* at[3] = {q[0].data(), q[1].data(), q[2].data()};
  jpeg_synthesise(f, at, j.out.get(), kOrderCoding);
  if (j.lossy_only || j.residual_size == 0) return "";
  for (auto& v : q) std::vector<int16_t>().swap(v);
  std::vector<int16_t> symbols(samples, 0);
  BitDecoder lane(j.residual, j.residual_size);
  ResidualCoder<BitDecoder> coder(lane, f, j.out.get());
  if (!coder.run(symbols.data()) || !lane.finished()) return "the residual is damaged";
  const int step = 2 * j.tau + 1;
  for (size_t i = 0; i < samples; ++i) j.out[i] = jpeg_clamp8(j.out[i] + symbols[i] * step);
  return "";
}

struct JpegEncodeJob {
  JpegFields f;
  const int16_t* q[3] = {};
  int tau = 0;
  const uint8_t* x = nullptr;  // [H][W][components], coding order
  double most = 1;             // share of samples with a residual above which nothing is coded
  std::vector<uint8_t> lossy, residual, out;
  bool done = false;
};

inline void jpeg_encode(JpegEncodeJob& j) {
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
  {
    for (int c = 0; c < f.components; ++c)
      j.lossy.push_back(uint8_t(table_code(f.tables[c], c ? f.tables[c - 1] : nullptr)));
    const std::vector<uint8_t> codes = j.lossy;
    BitEncoder lane;
    CoefficientCoder<BitEncoder> coder(lane, f);
    code_tables(codes.data(), f, coder);
    int16_t* at[3] = {};
    for (int c = 0; c < f.components; ++c) at[c] = const_cast<int16_t*>(j.q[c]);  // only a decoder writes
    coder.run(at);
    const auto& bytes = lane.finish();
    j.lossy.insert(j.lossy.end(), bytes.begin(), bytes.end());
  }
  if (count) {
    BitEncoder lane;
    ResidualCoder<BitEncoder> coder(lane, f, j.out.data());
    coder.run(symbols.data());
    j.residual = lane.finish();
    for (size_t i = 0; i < samples; ++i) j.out[i] = jpeg_clamp8(j.out[i] + symbols[i] * step);
  }
  j.done = true;
}

}  // namespace dlpr
