// Batches are planned for by their number of rows, in classes.
#pragma once

#include <cstdint>

namespace fastmnist {

inline constexpr int kRowClasses = 8;
// The largest batch of each class. The last class is everything above the others; 96 rows stand
// for it where it is measured.
inline constexpr std::int64_t kRowsOfClass[kRowClasses] = {1, 2, 4, 8, 16, 32, 64, 96};
// The least class that a share of one thread among several has (runtime/shares.h): 17 to 32 rows.
inline constexpr int kFirstThreadedClass = 5;

inline int row_class(std::int64_t rows) {
  int c = 0;
  while (c < kRowClasses - 1 && rows > kRowsOfClass[c]) ++c;
  return c;
}

}  // namespace fastmnist
