// What is remembered, in the process and in a file; and files that anybody wrote.
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <limits>
#include <thread>

#include "check.h"
#include "core/files.h"
#include "runtime/measurements.h"

namespace {

using namespace fastmnist;
using Numbers = Measurements::Numbers;

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kMegabyte = std::size_t{1} << 20;

// A folder that goes with the test.
class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "fastmnist.XXXXXX";
    CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(const char* name) const { return path_ / name; }
  std::size_t files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_))
      count += entry.is_regular_file() ? 1 : 0;
    return count;
  }

 private:
  std::filesystem::path path_;
};

TEST(a_file_is_replaced_whole_and_its_folders_are_made) {
  if constexpr (!kFiles) return;
  const Folder folder;
  const std::string path = folder / "some/where/file.txt";
  CHECK(!read_file(path, kMegabyte));
  CHECK(replace_file(path, "one"));
  CHECK(replace_file(path, "another"));
  CHECK(read_file(path, kMegabyte) == "another");
  CHECK(!read_file(path, 6));
  CHECK(folder.files() == 1);
}

TEST(what_is_no_file_is_neither_read_nor_replaced) {
  if constexpr (!kFiles) return;
  const Folder folder;
  const std::string pipe = folder / "pipe";
  CHECK(mkfifo(pipe.c_str(), 0600) == 0);
  for (const std::string& path : {pipe, folder / ".", std::string("/dev/null"), std::string()}) {
    CHECK_IN(path, !read_file(path, kMegabyte));
    CHECK_IN(path, !replace_file(path, "text"));
  }
  CHECK(replace_file(folder / "file", "text"));
  CHECK(!replace_file(folder / "file/below", "text"));
}

TEST(a_link_stays_one) {
  if constexpr (!kFiles) return;
  const Folder folder;
  CHECK(replace_file(folder / "target", "old"));
  std::filesystem::create_symlink(folder / "target", folder / "link");
  CHECK(replace_file(folder / "link", "new"));
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_file(folder / "target", kMegabyte) == "new");
}

TEST(numbers_are_found_as_they_were_added) {
  Measurements known;
  CHECK(!known.find("a", "key", 2, 0, kMost));
  known.add("a", "key", {7, 9});
  CHECK(known.find("a", "key", 2, 0, kMost) == Numbers({7, 9}));
  CHECK(known.find("a", "key", 2, 7, 9) == Numbers({7, 9}));
  for (const auto& found :
       {known.find("a", "key", 1, 0, kMost), known.find("a", "key", 2, 8, kMost),
        known.find("a", "key", 2, 0, 8), known.find("a", "other", 2, 0, kMost),
        known.find("b", "key", 2, 0, kMost)})
    CHECK(!found);
  known.add("a", "key", {1});
  CHECK(known.find("a", "key", 1, 0, kMost) == Numbers({1}));
  CHECK(known.added() == 2);
  known.forget();
  CHECK(!known.find("a", "key", 1, 0, kMost));
}

TEST(another_store_reads_what_one_saved) {
  if constexpr (!kFiles) return;
  const Folder folder;
  const std::string path = folder / "cache/measurements.txt";
  Measurements one(path);
  one.add("a machine, with | signs", "layer 7x8 codes", {1, -5, kMost});
  one.save();
  Measurements other(path);
  CHECK(other.find("a machine, with | signs", "layer 7x8 codes", 3, -5, kMost) ==
        Numbers({1, -5, kMost}));
  CHECK(other.added() == 0);
  Measurements moved;
  CHECK(!moved.find("a machine, with | signs", "layer 7x8 codes", 3, -5, kMost));
  moved.keep_in(path);
  CHECK(moved.find("a machine, with | signs", "layer 7x8 codes", 3, -5, kMost).has_value());
}

TEST(stores_that_save_at_once_lose_nothing) {
  if constexpr (!kFiles) return;
  const Folder folder;
  const std::string path = folder / "measurements.txt";
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        Measurements known(path);
        known.add("m", std::to_string(t) + " " + std::to_string(i), {t});
        known.save();
      }
    });
  for (std::thread& thread : threads) thread.join();
  Measurements all(path);
  for (int t = 0; t < 4; ++t)
    for (int i = 0; i < 20; ++i)
      CHECK(all.find("m", std::to_string(t) + " " + std::to_string(i), 1, t, t).has_value());
  CHECK(folder.files() == 2);  // it, and its lock
}

TEST(lines_that_are_no_entries_are_left_out) {
  if constexpr (!kFiles) return;
  const Folder folder;
  const std::string path = folder / "measurements.txt";
  const std::string head = "fastmnist measurements 2\n";
  const std::string good = "machine\tm\ngood\t1 2\n";
  for (const std::string& text :
       {head + good, head + "before any machine\t3\n" + good, head + good + "good enough\t",
        head + good + "bad\t1  2\nbad\t1 2x\nbad\t 1\nbad\t0x1\nbad\t1e3\nbad\t\n",
        head + good + "bad\t" + std::string(400, '9') + "\n", head + good + std::string(9, '\0'),
        head + "good\t9 9\n" + good + "\t\n\t1\n\n\n"}) {
    CHECK(replace_file(path, text));
    Measurements known(path);
    CHECK_IN(text, known.find("m", "good", 2, 1, 2) == Numbers({1, 2}));
    CHECK_IN(text, !known.find("m", "bad", 1, 0, kMost) && !known.find("m", "bad", 2, 0, kMost));
  }
  for (const std::string& text :
       {std::string(), "fastmnist measurements 1\n" + good, "\n" + head + good, good,
        "fastmnist measurements 2\r\n" + good, std::string(9 * kMegabyte, 'x')}) {
    CHECK(replace_file(path, text));
    Measurements known(path);
    CHECK(!known.find("m", "good", 2, 1, 2));
    known.add("m", "new", {5});
    known.save();
    CHECK(Measurements(path).find("m", "new", 1, 5, 5).has_value());
  }
}

TEST(the_latest_entries_of_a_machine_are_kept) {
  if constexpr (!kFiles) return;
  const Folder folder;
  const std::string path = folder / "measurements.txt";
  Measurements known(path);
  for (int i = 0; i < 1200; ++i) known.add("m", std::to_string(i), {i});
  known.add("another", "key", {1});
  known.save();
  Measurements later(path);
  later.add("m", "1200", {1200});
  later.add("m", "700", {700});  // measured again: now one of the latest
  later.save();
  Measurements read(path);
  CHECK(!read.find("m", "200", 1, 0, kMost));
  CHECK(read.find("m", "202", 1, 0, kMost).has_value());
  CHECK(read.find("m", "700", 1, 0, kMost) && read.find("m", "1200", 1, 0, kMost));
  CHECK(read.find("another", "key", 1, 1, 1).has_value());
}

}  // namespace
