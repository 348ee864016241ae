// What was measured on this machine: kept for the process, and in a file for the next one.
//
// The file is text, one thing a line, and may be read, changed or deleted by anybody:
//
//     fastmnist measurements 2
//     machine <tab> Intel(R) Xeon(R) | avx2 1x1, avx512_vnni 8x1, ... | fastmnist 0.1.0
//     layer 784x96 codes <tab> 1210 890 2040 ...
//     blocks static 784x96 codes, 96x10 <tab> 128
//
// Another first line, or another number in it, is a file that holds nothing. Lines that are no
// entries are left out, and an entry is checked by whoever uses it. Numbers are integers
// (nanoseconds, unless the key says otherwise), which every locale writes alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/export.h"
#include "core/locks.h"

namespace fastmnist {

// Any number of threads may use one, and a forked child may go on with its copy.
class FASTMNIST_API Measurements {
 public:
  using Numbers = std::vector<std::int64_t>;
  static constexpr std::size_t kMostEntries = 1000;  // in the file per machine: the latest

  // Without a path: for this process only.
  explicit Measurements(std::string path = {});
  Measurements(const Measurements&) = delete;
  Measurements& operator=(const Measurements&) = delete;

  // From now on the file is this; "" for none. What is known stays known.
  void keep_in(std::string path);

  // What is known of `machine` under `key`, if these are `count` numbers from `least` to `most`.
  std::optional<Numbers> find(std::string_view machine, std::string_view key, std::size_t count,
                              std::int64_t least, std::int64_t most);
  // Neither name may contain tabs or ends of lines.
  void add(std::string_view machine, std::string_view key, Numbers numbers);

  // Adds what is new to the file, which other processes may be changing, too. Where that cannot be
  // done it is measured again next time.
  void save();

  // Forgets everything except what the file holds.
  void forget();

  // How many entries were added in this process: measured, not remembered.
  std::int64_t added() const;

  // Whether planners measure what is not known; at first they do.
  void may_measure(bool may) { may_measure_ = may; }
  bool may_measure() const { return may_measure_; }

  // Held by whoever measures, whatever store keeps the times: two threads that measure at once
  // would measure each other.
  static std::unique_lock<Mutex> measuring();

  struct Entry {
    Numbers numbers;
    std::uint64_t order;  // the higher, the later
  };
  using Machine = std::map<std::string, Entry, std::less<>>;
  struct Store {
    std::map<std::string, Machine, std::less<>> machines;
    std::uint64_t next = 0;

    void put(std::string_view machine, std::string_view key, Numbers numbers);
  };

 private:
  void read_once();

  std::string path_;
  bool is_read_ = false;
  Store known_;
  Store unsaved_;
  std::int64_t added_ = 0;
  bool may_measure_ = true;
};

}  // namespace fastmnist
