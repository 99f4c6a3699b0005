# Writes files as a source: cmake -DOUT=... -DFILES=name=path;... -P embed.cmake
set(text "#include \"page/assets.h\"\n\nnamespace mesh::page_assets {\n\n")
foreach(one ${FILES})
  string(REGEX MATCH "^([^=]+)=(.+)$" _ "${one}")
  set(name ${CMAKE_MATCH_1})
  file(READ "${CMAKE_MATCH_2}" bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  # Lines that editors can bear.
  string(REGEX REPLACE "((0x..,){32})" "\\1\n" bytes "${bytes}")
  string(APPEND text "namespace {\nconstexpr unsigned char ${name}_bytes[] = {\n${bytes}};\n}  // namespace\n"
    "const std::string_view ${name}(reinterpret_cast<const char*>(${name}_bytes), sizeof ${name}_bytes);\n\n")
endforeach()
file(WRITE "${OUT}" "${text}}  // namespace mesh::page_assets\n")
