// What the page is made of: the files of assets/, as they are. Made when the program is built.
#pragma once

#include <string_view>

namespace mesh::page_assets {

extern const std::string_view html;
extern const std::string_view css;
extern const std::string_view icon;
extern const std::string_view script;

}  // namespace mesh::page_assets
