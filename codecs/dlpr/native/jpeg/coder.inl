// One instruction set's coder: DLPR_SPACE names its namespace, DLPR_AVX2 whether it may use these instructions.
#include "jpeg/coder.hpp"
#include "jpeg/fold.hpp"
#include "jpeg/image.hpp"
#include "jpeg/synthesis.hpp"
#include "jpeg/zigzag.hpp"
#include "mixed/arith.hpp"
#include "mixed/levels.hpp"
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>
#if DLPR_AVX2
#include <immintrin.h>
#endif

#define DLPR_INLINE __attribute__((always_inline)) inline

// A pragma instead of a compiler option: what the standard library's headers define must run on every machine.
#if DLPR_AVX2 && defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#elif DLPR_AVX2
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

namespace dlpr {
namespace DLPR_SPACE {
namespace {

#include "mixed/mixer.inl"

#include "jpeg/coefficients.inl"

#include "mixed/residual.inl"

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

void state_size(int components, size_t* slots, size_t* sets) {
  *slots = component_slots() * size_t(components), *sets = size_t(kFirstSets + kSecondSets) * size_t(components);
}

std::vector<uint8_t> encode(JpegFields& f, const uint8_t* codes, int16_t* const* q, const MixState* start,
                            uint32_t* saved_slots, int16_t* saved_weights) {
  BitEncoder lane;
  CoefficientCoder<BitEncoder> coder(lane, f, start);
  code_tables(codes, f, coder);
  coder.run(q);
  if (saved_slots) {
    std::copy_n(coder.mixer().slots(), component_slots() * size_t(f.components), saved_slots);
    coder.mixer().save(saved_weights);
  }
  return lane.finish();
}

bool decode(JpegFields& f, const uint8_t* codes, const uint8_t* bytes, size_t size, const MixState* start,
            int16_t* const* q) {
  BitDecoder lane(bytes, size);
  CoefficientCoder<BitDecoder> coder(lane, f, start);
  return code_tables(codes, f, coder) && coder.run(q) && lane.finished();
}

ResidualArea area(const JpegFields& f) { return {f.H, f.W, f.components, f.phase_y, f.phase_x}; }

std::vector<uint8_t> encode_residual(const JpegFields& f, const uint8_t* jpeg, int16_t* symbols) {
  BitEncoder lane;
  ResidualCoder<BitEncoder> coder(lane, area(f), jpeg);
  coder.run(symbols);
  return lane.finish();
}

bool decode_residual(const JpegFields& f, const uint8_t* jpeg, const uint8_t* bytes, size_t size, int16_t* symbols) {
  BitDecoder lane(bytes, size);
  ResidualCoder<BitDecoder> coder(lane, area(f), jpeg);
  return coder.run(symbols) && lane.finished();
}

}  // namespace

#define DLPR_TEXT_(x) #x
#define DLPR_TEXT(x) DLPR_TEXT_(x)
const JpegCoder jpeg_coder_table = {DLPR_TEXT(DLPR_SPACE), state_size,     encode, decode,
                                    encode_residual,       decode_residual};

}  // namespace DLPR_SPACE
}  // namespace dlpr

#if DLPR_AVX2 && defined(__clang__)
#pragma clang attribute pop
#elif DLPR_AVX2
#pragma GCC pop_options
#endif
