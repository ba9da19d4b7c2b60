#include <cstddef>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#endif
#define DLPR_ISA avx512
#define DLPR_ISA_NAME "avx512"
#include "networks/kernels_impl.hpp"
