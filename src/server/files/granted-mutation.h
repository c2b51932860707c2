// A mutation of somebody who may not do everything: it is carried out in their tree, told by its paths from the served
// folder, and refused at the moment of application if the grant has ended by then, or has no room for what it brings.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <capstan/server/access/grant.h>
#include <capstan/server/files/quota.h>
#include <capstan/server/files/storage.h>
#include <capstan/storage/mutation.h>

namespace capstan::server::files {

class GrantedMutation final : public Mutation {
 public:
  // `owner` keeps what the references refer to. Paths of `inner` are relative to `top`, at which `root` is.
  GrantedMutation(std::unique_ptr<Mutation> inner, std::shared_ptr<const void> owner, const Root& root,
                  const std::string& top, const Grant& grant, const std::vector<Quota>& quotas);

  bool prepare(Round& round) override;
  Status flushContent(Round& round) override;
  Result<Entry> apply(Round& round) override;
  void finish(bool ok) override { inner->finish(ok); }

 private:
  const std::unique_ptr<Mutation> inner;
  const std::shared_ptr<const void> owner;
  const Root& root;
  const std::string& top;
  const Grant& grant;
  const std::vector<Quota>& quotas;

  Result<Entry> applyWithin(Round& round);
};

}  // namespace capstan::server::files
