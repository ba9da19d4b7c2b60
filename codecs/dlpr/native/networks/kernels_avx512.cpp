#include <cstddef>
#define DLPR_ISA avx512
#define DLPR_ISA_NAME "avx512"
#include "networks/kernels_impl.hpp"
