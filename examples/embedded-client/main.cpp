// A drop box: stores a local file on a Capstan server if there is none of that name yet, reads it back to see that it
// arrived, and lists what lies beside it. Shows how another program uses the client library.
//
//   embedded-client ADDRESS TOKEN_FILE FILE FOLDER       TOKEN_FILE is - where the server asks for no token
//
// Built with CMake (see CMakeLists.txt) or with
//   g++ main.cpp -o embedded-client $(pkg-config --cflags --libs capstan-client)
#include <cstdio>
#include <string>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/client/blocking-client.h>

using namespace capstan;

namespace {

int fail(const Error& error) {
  std::fprintf(stderr, "embedded-client: %s: %s\n", std::string(kebabCase(error.code)).c_str(), error.message.c_str());
  return 1;
}

// A token file holds 64 hexadecimal digits and a newline.
Result<std::string> readToken(const std::string& path) {
  if (path == "-") return std::string();
  Result<std::string> text = readFile(path);
  if (!text.ok()) return text;
  std::optional<std::string> token = fromHex(text->substr(0, text->find('\n')));
  if (!token) return errorAt(ErrorCode::INVALID_ARGUMENT, path, "there is no token in ");
  return *token;
}

int run(const client::Options& options, const std::string& file, const std::string& folder) {
  client::BlockingClient server(options);
  std::string target = folder + "/" + file.substr(file.rfind('/') + 1);

  client::UploadSettings settings;
  settings.expectation.kind = Expectation::Kind::ABSENT;
  Result<client::TransferSummary> stored = server.upload(file, target, settings);
  if (stored.ok()) {
    std::printf("stored %s\n", target.c_str());
  } else if (stored.error().code == ErrorCode::EXISTS) {
    std::printf("%s was there already\n", target.c_str());
  } else {
    return fail(stored.error());
  }

  Hasher hasher(DigestAlgorithm::SHA256);
  Result<Entry> read = server.read(target, [&](std::string_view bytes) {
    hasher.update(bytes);
    return okStatus();
  });
  if (!read.ok()) return fail(read.error());
  std::printf("%s  %s\n", toHex(hasher.digest()).c_str(), formatSize(read->size).c_str());

  Result<std::vector<Entry>> entries = server.list(folder);
  if (!entries.ok()) return fail(entries.error());
  for (const Entry& entry : *entries) std::printf("%s\n", escapeForTerminal(entry.path).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: embedded-client ADDRESS TOKEN_FILE FILE FOLDER\n");
    return 2;
  }
  Result<rpc::Address> address = rpc::parseAddress(argv[1]);
  if (!address.ok()) return fail(address.error());
  Result<std::string> token = readToken(argv[2]);
  if (!token.ok()) return fail(token.error());
  client::Options options;
  options.address = *address;
  options.token = *token;
  options.name = "embedded-client";
  return run(options, argv[3], argv[4]);
}
