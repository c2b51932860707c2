#include <capstan/storage/beneath.h>

#include <algorithm>

#include <kj/debug.h>

#include <capstan/base/path.h>
#include <capstan/storage/resolver.h>

namespace capstan::storage {

namespace {

class RootBeneath final : public Root {
 public:
  RootBeneath(const Root& outer, std::string_view path)
      : known(outer.served()), top(joinPath(outer.pathInServed(), path)) {}

  int fd() const override { KJ_FAIL_REQUIRE("a folder that is found anew at each use has no descriptor"); }
  int stateFd() const override { KJ_FAIL_REQUIRE("only the served folder has a state folder"); }
  bool isState(const struct stat& status) const override { return idOf(status) == known.state; }
  bool reserves(std::string_view) const override { return false; }

  Result<kj::AutoCloseFd> open(std::string_view path, int flags, Follow follow) const override {
    auto folder = enter(path);
    if (!folder.ok()) return folder.error();
    return Resolver(known, *folder).open(path, flags, follow);
  }

  kj::Maybe<Result<kj::AutoCloseFd>> tryOpenNow(std::string_view path, int flags) const override {
    // Errors of the first step are told by open().
    KJ_IF_MAYBE (folder, Resolver(known).tryOpenPlainNow(top)) {
      if (!folder->ok() || !check(path).ok()) return nullptr;
      return Resolver(known, folder->value()).tryOpenNow(path, flags);
    }
    return nullptr;
  }

  Result<Place> locate(std::string_view path, bool makeMissing) const override {
    auto folder = enter(path);
    if (!folder.ok()) return folder.error();
    return Resolver(known, *folder).locate(path, makeMissing);
  }

  Result<struct stat> stat(std::string_view path, Follow follow) const override {
    auto folder = enter(path);
    if (!folder.ok()) return folder.error();
    return Resolver(known, *folder).stat(path, follow);
  }

  Result<std::string> canonical(std::string_view path) const override {
    auto folder = enter(path);
    if (!folder.ok()) return folder.error();
    return Resolver(known, *folder).canonical(path);
  }

  const ServedRoot& served() const override { return known; }
  const std::string& pathInServed() const override { return top; }

 private:
  const ServedRoot& known;
  const std::string top;  // from the served folder

  // What would be too long for those who hold more of the tree could not be reached by them.
  Status check(std::string_view path) const {
    if (auto status = validatePath(path); !status.ok()) return status;
    if (top.size() + 1 + path.size() <= MAX_PATH_BYTES) return okStatus();
    return errorAt(ErrorCode::INVALID_PATH, path, "",
                   " is too long: with the path of the folder that you were given it has more than 4,096 bytes");
  }

  Result<kj::AutoCloseFd> enter(std::string_view path) const {
    if (auto status = check(path); !status.ok()) return status.error();
    auto folder = Resolver(known).openPlain(top);
    if (folder.ok()) return folder;
    switch (folder.error().code) {
      case ErrorCode::NOT_FOUND:
      case ErrorCode::NOT_DIRECTORY:
      case ErrorCode::INVALID_PATH:
        return errorAt(ErrorCode::NOT_FOUND, path, "cannot reach ",
                       ": the folder that you were given is not where it was; ask whoever gave it to you");
      default:
        return errorAt(folder.error().code, path, "cannot reach ", ": the folder that you were given cannot be opened");
    }
  }
};

}  // namespace

std::unique_ptr<Root> newRootBeneath(const Root& outer, std::string_view path) {
  return std::make_unique<RootBeneath>(outer, path);
}

std::string pathBeneath(std::string_view path, std::string_view folder) {
  KJ_REQUIRE(isWithin(path, folder));
  if (folder.empty()) return std::string(path);
  return std::string(path.substr(std::min(path.size(), folder.size() + 1)));
}

}  // namespace capstan::storage
