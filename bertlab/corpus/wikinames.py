"""Names that Wikipedia's mark-up gives a meaning and its dumps do not spell out, in lower case: namespaces, projects, sections, templates.

Only names. Those of the templates are English Wikipedia's; the others cover some twenty large languages, and a dump's own <siteinfo> adds
the namespaces of any other.
"""

# MediaWiki's canonical names, which every wiki understands beside its own (mediawiki.org, Manual:Namespace).
NAMESPACES = {
    **{"media": -2, "special": -1, "talk": 1, "user": 2, "user talk": 3, "project": 4, "wikipedia": 4, "wp": 4, "wikipedia talk": 5},
    **{"file": 6, "image": 6, "file talk": 7, "mediawiki": 8, "template": 10, "template talk": 11, "help": 12, "category": 14},
    **{"category talk": 15, "portal": 100, "draft": 118, "module": 828},
}

# Local names of files and categories. Dumps give the newest one only, and articles still hold the older ones.
_FILES = (
    "datei bild fichier archivo imagen file immagine ficheiro arquivo imagem bestand afbeelding plik grafika fil файл изображение "
    "зображення ファイル 画像 文件 图像 檔案 圖像 档案 파일 그림 ملف صورة پرونده תמונה קובץ चित्र dosya resim tập_tin hình berkas "
    "gambar soubor fájl kép αρχείο"
)
_CATEGORIES = (
    "kategorie catégorie categoría categoria categorie kategoria kategori категория категорія カテゴリ 分类 分類 분류 تصنيف رده "
    "קטגוריה श्रेणी thể_loại kategória κατηγορία"
)
ALIASES = {
    **{name.replace("_", " "): 6 for name in _FILES.split()},
    **{name.replace("_", " "): 14 for name in _CATEGORIES.split()},
}

# What the name of a file ends with, for the languages that are not above.
_ENDINGS = ".jpg .jpeg .png .svg .gif .tif .tiff .webp .webm .ogg .oga .ogv .mp3 .mp4 .wav .flac .mid .pdf .djvu .xcf"
FILE_ENDINGS = tuple(_ENDINGS.split())

# Links to Wikimedia's other projects: the label is text, the name of the page is not.
_PROJECTS = (
    "w wikt wiktionary s wikisource b wikibooks q wikiquote n wikinews v wikiversity voy wikivoyage c commons m meta d wikidata species "
    "wikispecies mw mediawikiwiki foundation phab doi iarchive"
)
PROJECTS = frozenset(_PROJECTS.split())

# Sections that hold no sentences: sources, links, notes.
_SECTIONS = """
    references | reference | see also | external links | external link | notes | note | further reading | bibliography | sources |
    footnotes | citations | works cited | notes and references | references and notes | references and sources | gallery |
    einzelnachweise | weblinks | literatur | siehe auch | quellen | anmerkungen | fußnoten | belege | galerie |
    références | notes et références | voir aussi | liens externes | bibliographie | articles connexes | annexes | notes et sources |
    referencias | véase también | enlaces externos | bibliografía | notas | fuentes | galería |
    note | voci correlate | collegamenti esterni | altri progetti | riferimenti | bibliografia |
    referências | ver também | ligações externas | leitura adicional | fontes | notas e referências | referências bibliográficas |
    zie ook | externe links | externe link | bronnen | referenties | literatuur | bronnen, noten en/of referenties | noten |
    przypisy | linki zewnętrzne | zobacz też | uwagi | se även | källor | referenser | externa länkar | noter | se også | kilder |
    примечания | ссылки | литература | см. также | источники | примітки | посилання | література | див. також | джерела |
    脚注 | 参考文献 | 関連項目 | 外部リンク | 出典 | 注釈 | 关联条目 | 参见 | 參見 | 參看 | 参看 | 外部链接 | 外部連結 | 參考文獻 |
    参考资料 | 參考資料 | 注释 | 註釋 | 延伸阅读 | 延伸閱讀 | 각주 | 같이 보기 | 외부 링크 | 참고 문헌 | 출처 |
    مراجع | المراجع | انظر أيضا | انظر أيضًا | وصلات خارجية | روابط خارجية | منابع | پانویس | جستارهای وابسته | پیوند به بیرون |
    הערות שוליים | קישורים חיצוניים | ראו גם | לקריאה נוספת | सन्दर्भ | संदर्भ | इन्हें भी देखें | बाहरी कड़ियाँ | बाहरी कड़ियां |
    kaynakça | dış bağlantılar | ayrıca bakınız | tham khảo | liên kết ngoài | xem thêm | pranala luar | lihat pula | referensi
"""
TAIL_SECTIONS = frozenset(name.strip() for name in _SECTIONS.split("|"))

# Which argument is the text. In English Wikipedia these stand in the middle of sentences, and would leave holes.
KEPT_TEMPLATES: dict[str, int] = {
    **dict.fromkeys(
        ("nowrap", "nobr", "nobold", "small", "smaller", "big", "larger", "em", "strong", "sc", "smallcaps", "abbr", "tooltip"), 1
    ),
    **dict.fromkeys(
        ("quote", "blockquote", "quotation", "sic", "not a typo", "linktext", "ill", "interlanguage link", "iast", "nihongo"), 1
    ),
    **dict.fromkeys(("lang", "transl", "transliteration"), -2),  # the last of two or more: {{transl|ar|DIN|text}}
}
CONSTANTS = {
    "snd": " – ",
    "spnd": " – ",
    "spaced ndash": " – ",
    "ndash": "–",
    "mdash": "—",
    "nbsp": " ",
    "'": "'",
    "'s": "'s",
    "!": "|",
    "=": "=",
}
RANGES = {"to", "-", "–", "and", "or", "by", "x", "×"}  # {{convert|5|to|7|km}}

# What stands for an HTML tag; one that is not here is text.
_BREAKING_TAGS = "p div center blockquote poem ul ol dl dd dt h1 h2 h3 h4 h5 h6 hr section"
_INLINE_TAGS = (
    "abbr b bdi bdo big cite data del dfn em font i ins kbd mark noinclude onlyinclude q rb rp rt rtc ruby s samp small span strike strong "
    "sub sup time tt u var wbr td th tr tbody thead tfoot table nowiki ref references gallery code pre"
)
TAGS = {**dict.fromkeys(_BREAKING_TAGS.split(), "\n\n"), **dict.fromkeys(_INLINE_TAGS.split(), ""), "br": " ", "li": "\n* "}
