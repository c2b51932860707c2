// From a path to a descriptor, below one folder: what all Roots have in common. openat2(RESOLVE_BENEATH) where the
// kernel has it, else, and wherever a symlink is on the way, component by component. Internal to the Roots.
#pragma once

#include <string>
#include <string_view>

#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/storage/root.h>
#include <capstan/storage/version.h>
#include <capstan/storage/walk.h>

namespace capstan::storage {

// What is known of the served folder. Constant.
struct ServedRoot {
  int fd = -1;  // owned by the Root
  FileId id;
  FileId state;  // of the server's own folder
  // Names that differ in case (or, with Unicode, in worse) may be one: only inodes tell what is the state folder.
  bool foldsCase = false;
  bool beneath = false;  // openat2 decides where it can
  bool now = false;      // it can without waiting

  // `fd` and the ids are known; finds out the rest.
  void findOut(bool byNames);
};

// Opens below one folder, which is either the served one or somewhere in it. Holds nothing of its own.
class Resolver {
 public:
  // The served folder itself.
  explicit Resolver(const ServedRoot& served) : served(served), folder(served.fd), isServed(true) {}
  // What `folder` (O_PATH will do) holds; it must outlive this.
  Resolver(const ServedRoot& served, int folder) : served(served), folder(folder), isServed(false) {}

  // As the methods of Root.
  Result<kj::AutoCloseFd> open(std::string_view path, int flags, Follow follow) const;
  kj::Maybe<Result<kj::AutoCloseFd>> tryOpenNow(std::string_view path, int flags) const;
  Result<Root::Place> locate(std::string_view path, bool makeMissing) const;
  Result<struct stat> stat(std::string_view path, Follow follow) const;
  Result<std::string> canonical(std::string_view path) const;

  // A folder by its real name, with O_PATH: a symlink anywhere in the path is as if there was nothing.
  Result<kj::AutoCloseFd> openPlain(std::string_view path) const;
  // The same without waiting; null if it might.
  kj::Maybe<Result<kj::AutoCloseFd>> tryOpenPlainNow(std::string_view path) const;

 private:
  const ServedRoot& served;
  const int folder;
  const bool isServed;

  Ground ground() const { return {folder, served.state, isServed}; }
  Status check(std::string_view path) const;
  Result<Walked> walkTo(std::string_view path, Follow follow) const;
  kj::Maybe<Result<kj::AutoCloseFd>> openWith(uint64_t resolve, std::string_view path, int flags) const;
  Result<kj::AutoCloseFd> openFolder(std::string_view path, std::vector<kj::AutoCloseFd>* made) const;
};

}  // namespace capstan::storage
