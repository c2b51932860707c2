// A folder of its own for one test, removed at the end, and short ways to fill and look at it.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <capstan/base/file.h>
#include <capstan/storage/version.h>
#include <kj/debug.h>

namespace capstan::storage {

class TempFolder {
 public:
  TempFolder() {
    const char* parent = getenv("TMPDIR");
    place = std::string(parent == nullptr ? "/tmp" : parent) + "/capstan-test-XXXXXX";
    KJ_REQUIRE(mkdtemp(place.data()) != nullptr, "cannot make a folder for the test");
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(place, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return place; }
  std::string operator/(const std::string& name) const { return place + "/" + name; }

  void write(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories(std::filesystem::path(*this / name).parent_path());
    std::ofstream file(*this / name, std::ios::binary | std::ios::trunc);
    file << content;
    KJ_REQUIRE(file.flush().good(), name.c_str());
  }
  // Changes bytes of a file that stays the same file.
  void overwrite(const std::string& name, const std::string& content, uint64_t offset = 0) const {
    kj::AutoCloseFd fd(::open((*this / name).c_str(), O_WRONLY | O_CLOEXEC));
    KJ_REQUIRE(fd.get() >= 0 && writeAt(fd, content.data(), content.size(), offset), name.c_str());
  }
  std::string read(const std::string& name) const {
    std::ifstream file(*this / name, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    return content.str();
  }
  void makeFolder(const std::string& name) const { std::filesystem::create_directories(*this / name); }
  void link(const std::string& name, const std::string& target) const {
    KJ_REQUIRE(symlink(target.c_str(), (*this / name).c_str()) == 0, name.c_str());
  }
  struct stat stat(const std::string& name) const {
    struct stat status;
    KJ_REQUIRE(lstat((*this / name).c_str(), &status) == 0, name.c_str());
    return status;
  }
  // Until the file system's clock has moved on from the file's last change: some ten milliseconds.
  void settle(const std::string& name) const {
    while (!isSettled(stat(name))) sched_yield();
  }

 private:
  std::string place;
};

}  // namespace capstan::storage
