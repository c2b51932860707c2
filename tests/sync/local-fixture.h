// What tests of the local side start with: a temporary folder, and files in it.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include <capstan/base/error.h>

namespace capstan::sync {

template <typename T>
T expectOk(Result<T> result) {
  if (result.ok()) return std::move(*result);
  ADD_FAILURE() << kebabCase(result.error().code) << ": " << result.error().message;
  return T{};
}

template <typename T>
Error expectError(const Result<T>& result, ErrorCode code) {
  if (result.ok()) {
    ADD_FAILURE() << "it worked";
    return {};
  }
  EXPECT_EQ(kebabCase(result.error().code), kebabCase(code)) << result.error().message;
  return result.error();
}

class LocalTest : public testing::Test {
 protected:
  LocalTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "capstan-local-XXXXXX";
    base = mkdtemp(pattern.data());
  }
  ~LocalTest() noexcept override { std::filesystem::remove_all(base); }

  std::string path(const std::string& name = {}) const { return name.empty() ? base : base + "/" + name; }
  void write(const std::string& name, std::string_view content) {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name), std::ios::binary) << content;
  }
  std::string read(const std::string& name) const {
    std::ifstream in(path(name), std::ios::binary);
    std::stringstream all;
    all << in.rdbuf();
    return in ? all.str() : "(not there)";
  }
  static std::string randomContent(size_t size, unsigned seed = 1) {
    std::mt19937_64 random(seed);
    std::string content(size, '\0');
    for (size_t i = 0; i < size; i += 5) content[i] = char(random());
    return content;
  }

 private:
  std::string base;
};

}  // namespace capstan::sync
