// One instruction set's coder: DLPR_SPACE names its namespace, DLPR_AVX2 whether it may use these instructions.
#include "j2k/coder.hpp"
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

#include "j2k/coder_coefficients.inl"

#include "mixed/residual.inl"

std::vector<uint8_t> encode(J2kFields& f, const J2kNumbers& numbers) {
  BitEncoder lane;
  CoefficientCoder<BitEncoder> coder(lane, f);
  coder.steps(f);
  if (!coder.run(j2k_bands(f), numbers)) return {};
  return lane.finish();
}

bool decode(J2kFields& f, const uint8_t* bytes, size_t size, J2kNumbers (*allot)(void*, const J2kFields&),
            void* owner) {
  BitDecoder lane(bytes, size);
  CoefficientCoder<BitDecoder> coder(lane, f);
  if (!coder.steps(f)) return false;
  const J2kNumbers numbers = allot(owner, f);
  return numbers.q && coder.run(j2k_bands(f), numbers) && lane.finished();
}

std::vector<uint8_t> encode_residual(const ResidualArea& area, const uint8_t* lossy, const uint8_t* doubts,
                                     int16_t* symbols) {
  BitEncoder lane;
  ResidualCoder<BitEncoder, true> coder(lane, area, lossy, doubts);
  coder.run(symbols);
  return lane.finish();
}

bool decode_residual(const ResidualArea& area, const uint8_t* lossy, const uint8_t* doubts, const uint8_t* bytes,
                     size_t size, int16_t* symbols) {
  BitDecoder lane(bytes, size);
  ResidualCoder<BitDecoder, true> coder(lane, area, lossy, doubts);
  return coder.run(symbols) && lane.finished();
}

}  // namespace

#define DLPR_TEXT_(x) #x
#define DLPR_TEXT(x) DLPR_TEXT_(x)
const J2kCoder j2k_coder_table = {DLPR_TEXT(DLPR_SPACE), encode, decode, encode_residual, decode_residual};

}  // namespace DLPR_SPACE
}  // namespace dlpr

#if DLPR_AVX2 && defined(__clang__)
#pragma clang attribute pop
#elif DLPR_AVX2
#pragma GCC pop_options
#endif
