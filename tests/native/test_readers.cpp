// Files of rows as fastmnist-run reads them: right, or refused, whatever is in them. Each damaged
// file lies in memory that ends where it ends.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "check.h"
#include "run/readers/bytes.h"
#include "run/readers/formats.h"
#include "run/readers/idx.h"
#include "run/readers/inflate.h"
#include "run/readers/npy.h"
#include "run/readers/pgm.h"
#include "run/readers/png.h"
#include "sample_files.h"
#include "support.h"

namespace {

using namespace fastmnist::run;
using namespace samples;
using support::Edge;
using support::Guarded;

template <typename Value>
std::string refusal(const fastmnist::Result<Value>& result) {
  return result.ok() ? "" : result.status().text();
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

fastmnist::Result<Content> content_of(const Text& text) {
  auto bytes = Bytes::of(text.size());
  std::copy(text.begin(), text.end(), (*bytes).data());
  return read_content(*std::move(bytes));
}

// What a picture's pixels are, as text.
Text pixels_of(const fastmnist::Result<Picture>& picture) {
  check::ok(picture.status());
  return Text(picture->pixels.values().begin(), picture->pixels.values().end());
}

// Reads every beginning of the file, and it with each bit of its first `bits` changed, one at a
// time: nothing is read outside of it, and what is refused says what was expected.
void damage(const Text& file, std::size_t bits,
            const std::function<std::string(ByteSpan)>& refusal_of) {
  const auto read = [&](const Text& text) {
    const Guarded<std::uint8_t> guarded(bytes_of(text), Edge::kLast);
    const std::string why = refusal_of(guarded.values());
    CHECK_IN(why, why.empty() || has(why, "expected "));
    return why;
  };
  CHECK(read(file).empty());
  for (std::size_t size = 0; size < file.size(); ++size)
    CHECK_IN(std::to_string(size), !read(file.substr(0, size)).empty());
  CHECK(!read(file + 'x').empty());
  for (std::size_t i = 0; i < 8 * std::min(bits, file.size()); ++i) {
    Text changed = file;
    changed[i / 8] = static_cast<char>(changed[i / 8] ^ 1 << i % 8);
    read(changed);
  }
}

TEST(idx_files_are_read) {
  const Text file = idx(0x08, {2, 2, 3}, "abcdefghijkl");
  const Array array = check::value(view_idx(bytes_of(file)));
  CHECK(array.element == Element::kUint8 && array.shape == (std::vector<std::size_t>{2, 2, 3}));
  CHECK(array.count() == 12 && array.bytes[11] == 'l');

  const Text floats = idx(0x0d, {1, 2}, Text("\x3f\x80\0\0\xc0\0\0\0", 8));  // 1, -2
  const auto values = check::value(floats_of(check::value(view_idx(bytes_of(floats)))));
  CHECK(values.size() == 2 && values[0] == 1 && values[1] == -2);

  const Text shorts = idx(0x0b, {2}, Text("\xff\xfe\1\0", 4));
  const auto integers = check::value(integers_of(check::value(view_idx(bytes_of(shorts)))));
  CHECK(integers[0] == -2 && integers[1] == 256);
}

TEST(idx_files_that_are_none_are_refused) {
  const auto why = [](const Text& text) { return refusal(view_idx(bytes_of(text))); };
  CHECK(has(why(idx(0x08, {2, 2}, "abc")), "expected 4 bytes"));
  CHECK(has(why(idx(0x08, {2, 0}, "")), "at least one value"));
  CHECK(has(why(idx(0x08, {0xffffffff, 0xffffffff, 0xffffffff}, "abc")), "fits into memory"));
  CHECK(has(why(idx(0x08, {}, "a")), "1 to 8"));
  CHECK(has(why(idx(0x0a, {1}, "a")), "expected an IDX file"));
  damage(idx(0x08, {2, 2, 3}, "abcdefghijkl"), 16,
         [](ByteSpan bytes) { return refusal(view_idx(bytes)); });
}

TEST(npy_files_are_read) {
  for (const int version : {1, 2, 3}) {
    const Text file = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }",
                          Text("\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\xc0", 16), version);
    const Array array = check::value(view_npy(bytes_of(file)));
    CHECK(array.shape == (std::vector<std::size_t>{1, 2}));
    const auto values = check::value(floats_of(array));
    CHECK(values[0] == 1 && values[1] == -2);
  }
  const Text labels = npy("{'shape':(3,),\"descr\":'|i1','fortran_order':False}", "\1\2\xff");
  const auto integers = check::value(integers_of(check::value(view_npy(bytes_of(labels)))));
  CHECK(integers.size() == 3 && integers[2] == -1);
}

TEST(npy_files_that_are_none_are_refused) {
  const auto why = [](const Text& header) {
    return refusal(view_npy(bytes_of(npy(header, "ab"))));
  };
  const Text begin = "{'descr': '|u1', 'fortran_order': ", end = ", 'shape': (1, 2), }";
  CHECK(why(begin + "False" + end).empty());
  CHECK(has(why(begin + "True" + end), "ascontiguousarray"));
  CHECK(has(why("{'descr': '|O', 'fortran_order': False" + end), "unpickled"));
  CHECK(has(why("{'descr': '>i2', 'fortran_order': False" + end), "little-endian"));
  CHECK(has(why("{'descr': [('a', '|u1')], 'fortran_order': False" + end), "records"));
  CHECK(has(why("{'descr': '<c8', 'fortran_order': False" + end), "'<c8'"));
  CHECK(has(why("{'descr': '|u1', 'fortran_order': False, 'shape': ()}"), "single number"));
  CHECK(has(why("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2)}"), "expected 4 bytes"));
  for (const char* header :
       {"", "{", "{}", "{'descr': '|u1', 'shape': (2,)}", "{'descr': '|u1', 'descr': '|u1'}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2)} x",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
        "{'descr': '|u1' 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|u1', 'fortran_order': 0, 'shape': (2,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}"})
    CHECK_IN(header, has(why(header), "expected an npy header"));
  damage(npy(begin + "False" + end, "ab"), 96,
         [](ByteSpan bytes) { return refusal(view_npy(bytes)); });
}

TEST(pgm_pictures_are_read) {
  const auto read = [](const Text& text) { return pixels_of(read_pgm(bytes_of(text))); };
  CHECK(read("P5 3 1 255\nabc") == "abc");
  CHECK(read("P5#a comment\n3\n# another\r\n1\t255 a#c") == "a#c");
  CHECK(read("P5 2 1 15\n\x0f\x01") == "\xff\x11");
  CHECK(read("P2 2 2 255\n1 2\n# between\n3 4 # behind\n") == "\1\2\3\4");
}

TEST(pgm_pictures_that_are_none_are_refused) {
  const auto why = [](const Text& text) { return refusal(read_pgm(bytes_of(text))); };
  CHECK(has(why("P6 1 1 255\nabc"), "P2 or P5, got P6"));
  CHECK(has(why("P5 1 1 65535\nab"), "8 bits"));
  CHECK(has(why("P5 10001 1 255\na"), "10000"));
  CHECK(has(why("P5 0 1 255\na"), "got 0 x 1"));
  CHECK(has(why("P5 9999 9999 255\na"), "truncated"));
  CHECK(has(why("P5 2 1 15\n\x0f\x10"), "up to 15, got 16"));
  CHECK(has(why("P2 2 1 255\n1 300"), "up to 255, got 300"));
  CHECK(has(why("P2 2 1 255\n1 x  "), "got 1 numbers"));
  CHECK(has(why("P2 2 1 255\n1 2 3"), "one picture"));
  CHECK(has(why("P5 1 1 255"), "truncated"));
  CHECK(has(why("P5 a"), "header"));
  damage("P5 4 3 255\nabcdefghijkl", 12, [](ByteSpan bytes) { return refusal(read_pgm(bytes)); });
}

TEST(files_of_other_forms_are_named) {
  const auto why = [](const Text& text) { return refusal(content_of(text)); };
  CHECK(has(why(""), "an empty file"));
  CHECK(has(why("\xff\xd8\xff\xe0"), "JPEG"));
  CHECK(has(why("PK\x03\x04"), ".npz"));
  CHECK(has(why(Text("\x10\0\0\0\0\0\0\0{", 9)), "safetensors"));
  CHECK(has(why("hello"), "another form"));
  check::ok(content_of("P5 3 1 255\nabc").status());
  check::ok(content_of(idx(0x08, {1, 2}, "ab")).status());
}

TEST(bytes_of_files_are_read) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("fastmnist_readers." + std::to_string(::getpid()));
  std::ofstream(path) << Text(100000, 'a') << "b";
  const Bytes bytes = check::value(read_bytes(path));
  CHECK(bytes.size() == 100001 && bytes[100000] == 'b');
  std::filesystem::remove(path);
  CHECK(has(refusal(read_bytes(path)), "got none"));
  CHECK(has(refusal(read_bytes("/")), "got a folder"));
  CHECK(has(refusal(read_bytes("/dev/zero")), "got a device"));
}

#if defined(FASTMNIST_ZLIB)

TEST(gzip_files_are_read) {
  const Text file = idx(0x08, {1, 3}, "abc");
  CHECK(check::value(content_of(gzip(file))).array->bytes[2] == 'c');
  // Of two members, as one.
  CHECK(check::value(content_of(gzip(file.substr(0, 5)) + gzip(file.substr(5)))).array->count() ==
        3);
  const Text zeros(10'000'000, '\0');
  const Bytes inflated = check::value(gunzip(bytes_of(gzip(zeros))));
  CHECK(inflated.size() == zeros.size());
  damage(gzip(file), 64, [](ByteSpan bytes) { return refusal(gunzip(bytes)); });
}

TEST(png_pictures_are_read) {
  const auto read = [](const Text& text) { return pixels_of(read_png(bytes_of(text))); };
  const auto line = [](const Text& row) { return Text(1, '\0') + row; };
  CHECK(read(png({3, 1, 8, 0}, line("abc"))) == "abc");
  CHECK(read(png({9, 1, 1, 0}, line("\x80\x80"))) == Text("\xff\0\0\0\0\0\0\0\xff", 9));
  CHECK(read(png({4, 1, 2, 0}, line("\x1b"))) == Text("\0\x55\xaa\xff", 4));
  CHECK(read(png({2, 1, 4, 0}, line("\x1f"))) == "\x11\xff");
  CHECK(read(png({2, 1, 16, 0}, line(Text("\x12\x34\0\x81", 4)))) == "\x12\1");
  CHECK(read(png({1, 1, 8, 4}, line("a\xff"))) == "a");
  CHECK(read(png({2, 1, 8, 2}, line(Text("aaa\xff\0\0", 6)))) == "aL");  // red: 76
  CHECK(read(png({1, 1, 8, 6}, line("bbb\xff"))) == "b");
  CHECK(read(png({2, 1, 8, 3}, line(Text("\1\0", 2)), "aaabbb")) == "ba");
  CHECK(read(png({2, 1, 4, 3}, line("\x10"), "aaabbb")) == "ba");
  // The same rows by each filter: left, above, their mean, the nearest of three.
  const Text rows = Text("\0\1\2\3", 4) + Text("\1\x0a\0\0", 4) + Text("\2\1\1\1", 4) +
                    Text("\3\1\1\1", 4) + Text("\4\1\1\1", 4);
  CHECK(read(png({3, 5, 8, 0}, rows)) ==
        Text("\1\2\3\x0a\x0a\x0a\x0b\x0b\x0b\6\x09\x0b\7\x0a\x0c", 15));
}

TEST(png_pictures_that_are_none_are_refused) {
  const auto why = [](const Text& text) { return refusal(read_png(bytes_of(text))); };
  const Text row("\0abc", 4);
  CHECK(has(why(png({3, 1, 8, 0, 1}, row)), "interlaced"));
  CHECK(has(why(png({3, 1, 8, 1}, row)), "color type"));
  CHECK(has(why(png({3, 1, 4, 2}, row)), "color type"));
  CHECK(has(why(png({10001, 1, 8, 0}, row)), "10000"));
  CHECK(has(why(png({9999, 9999, 8, 0}, row)), "cannot be so many"));
  CHECK(has(why(png({3, 2, 8, 0}, row)), "expected 8 bytes"));
  CHECK(has(why(png({2, 1, 8, 0}, row)), "got more"));
  CHECK(has(why(png({3, 1, 8, 0}, "\5abc")), "filters 0 to 4, got 5"));
  CHECK(has(why(png({3, 1, 8, 3}, row)), "a palette, got none"));
  CHECK(has(why(png({3, 1, 8, 3}, row, "aaabbb")), "2 colors, got 97"));
  CHECK(has(why(png({1, 1, 8, 4}, Text("\0a\xfe", 3))), "transparent pixels"));
  CHECK(has(why(png_with("tRNS", "\1\1", {3, 1, 8, 0}, row)), "transparent color"));
  CHECK(has(why(png_with("ABCD", "", {3, 1, 8, 0}, row)), "'ABCD'"));
  CHECK(has(why(png_with("IHDR", "", {3, 1, 8, 0}, row)), "one PNG header"));
  CHECK(why(png_with("tEXt", "a note", {3, 1, 8, 0}, row)).empty());
  const Text sound = png({3, 1, 8, 0}, row);
  damage(sound, sound.size(), [](ByteSpan bytes) { return refusal(read_png(bytes)); });
  // Checksums see every bit.
  for (std::size_t i = 0; i < 8 * sound.size(); ++i) {
    Text changed = sound;
    changed[i / 8] = static_cast<char>(changed[i / 8] ^ 1 << i % 8);
    CHECK_IN(std::to_string(i), !why(changed).empty());
  }
}

#endif

}  // namespace
