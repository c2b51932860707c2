// A ServedFolder without any files, in place of the real one: uploads can be held open, and each entry tells on which
// thread it was made. The definition of ServedFolder::open() in fake-folder.cpp keeps the linker from taking the one in
// the library.
#pragma once

#include <atomic>

#include <capstan/server/files/served-folder.h>

namespace capstan::server::files {

class FakeFolder final : public ServedFolder {
 public:
  explicit FakeFolder(FolderOptions options) : options(std::move(options)) {}

  schema::FileStore::Client newFileStore(kj::Own<Access> access) override;
  Result<HeldFile> hold(std::string path, const std::string& top) override;
  Result<Version> versionOf(const HeldFile&) override { return Version(); }
  kj::Promise<kj::Maybe<HeldFile>> localFile(ConnectionScope&, schema::File::Client) override;
  kj::Promise<kj::Maybe<kj::Own<Access>>> localTree(ConnectionScope&, schema::FileStore::Client) override;
  kj::Promise<void> whenApplied() override { return kj::READY_NOW; }
  FolderFigures figures() const override;

  const FolderOptions options;
};

}  // namespace capstan::server::files
