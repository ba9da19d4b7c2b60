// Arrays of the bindings: what comes in, and memory handed over to Python.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <algorithm>
#include <initializer_list>

namespace nb = nanobind;
using namespace nb::literals;

namespace dlpr {

template <class T>
using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;

// An array that owns p, which new[] gave.
template <class T>
nb::ndarray<nb::numpy, T> adopt(T* p, std::initializer_list<size_t> shape) {
  nb::capsule owner(p, [](void* q) noexcept { delete[] static_cast<T*>(q); });
  return nb::ndarray<nb::numpy, T>(p, shape.size(), shape.begin(), owner);
}

inline size_t values_in(std::initializer_list<size_t> shape) {
  size_t n = 1;
  for (size_t d : shape) n *= d;
  return n;
}

// An array of zeros, and where they lie.
template <class T>
nb::ndarray<nb::numpy, T> new_array(std::initializer_list<size_t> shape, T** data) {
  const size_t n = values_in(shape);
  return adopt(*data = new T[n ? n : 1](), shape);
}

// A copy of data.
template <class T>
nb::ndarray<nb::numpy, T> copied(const T* data, std::initializer_list<size_t> shape) {
  const size_t n = values_in(shape);
  T* p = new T[n];
  std::copy_n(data, n, p);
  return adopt(p, shape);
}

}  // namespace dlpr
