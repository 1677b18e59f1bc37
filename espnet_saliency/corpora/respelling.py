"""English words as speakers of other languages might say them, in the spelling of their language.

A foreign voice of espeak-ng that reads English text is no accent: it reads by its own spelling
rules, or falls back to English sounds. It speaks with an accent when each word is spelt, in the
language's own orthography, with the sounds that a speaker of it would use: no [th] in German or
Russian, v for w, a vowel before "school" in Spanish, final vowels in Korean, stress where the
language puts it. The spellings are ours, made for the vocabulary of the miniature corpus.
"""

from __future__ import annotations

# The header: language codes of espeak-ng.
_TABLE = """
word      hi        ru        es        it        de        ko        tr        pl        pt-br     nl        ja
anna      ऐना       анна      ana       enna      anna      애나        enna      enna      éna       enna      アンナ
laura     लॉरा      лора      lora      lora      lora      로라        lora      lora      lóra      loora     ローラ
martha    मार्था    марса     marza     marta     marßa     마싸        marta     marta     marta     marsa     マーサ
peter     पीटर      питер     píter     piter     pieter    피터        pitır     piter     píter     pieter    ピーター
robert    रॉबर्ट    роберт    róbert    robert    robbert   로버트       robırt    robert    róberti   robbert   ロバート
victor    विक्टर    виктор    víctor    vittor    wicktor   빅터        viktır    wiktor    víctor    viktor    ビクター
bought    बॉट       бот       bot       bot       boht      보트        bot       bot       bóti      bot       ボート
brought   ब्रॉट     брот      brot      brot      broht     브로트       brot      brot      bróti     brot      ブロート
carried   कैरीड     керид     cárrid    kerrid    kärried   캐리드       kerid     kerid     kéridi    kerrit    キャリード
found     फ़ाउंड    фаунд     faund     faund     faund     파운드       faund     faund     fáundi    faunt     ファウンド
painted   पेंटिड    пейнтед   péinted   peinted   pehnted   페인티드      peyntıd   pejnted   pêintidi  peentit   ペインテッド
sold      सोल्ड     соулд     sould     sold      sohld     솔드        sold      sold      sôudi     soolt     ソールド
wanted    वॉन्टिड   вонтед    guánted   uonted    wonted    원티드       vantıd    łonted    uóntidi   wontit    ウォンテッド
zero      ज़ीरो      зироу     sirou     ziro      siroh     지로        ziro      ziroł     zírou     ziero     ゼロ
one       वन        ван       uan       uan       wann      원          van       łan       uan       wan       ワン
two       टू        ту        tu        tu        tuh       투         tu        tu        tu        toe       ツー
three     थ्री      сри       srí       tri       sri       쓰리        tri       fri       tri       srie      スリー
four      फ़ोर      фор       for       for       fohr      포         for       for       fór       foor      フォー
five      फ़ाइव     файв      faib      faiv      faif      파이브       fayv      fajw      fáivi     faif      ファイブ
six       सिक्स     сикс      siks      sics      sicks     식스        siks      syks      síquis    siks      シックス
seven     सेवन      севен     seben     seven     sewwen    세븐        sevın     sewen     séven     sevven    セブン
eight     एट        эйт       éit       eit       eht       에잇        eyt       ejt       êiti      eet       エイト
nine      नाइन      найн      náin      nain      nein      나인        nayn      najn      náini     nain      ナイン
ten       टेन       тен       ten       ten       tenn      텐         ten       ten       tên       ten       テン
thirty    थर्टी     сёрти     zerti     terti     ßörti     써티        törti     ferti     térti     surtie    サーティー
cold      कोल्ड     коулд     could     cold      kohld     콜드        kold      kold      côudi     koolt     コールド
dark      डार्क     дарк      dark      dark      dark      다크        dark      dark      dárqui    dark      ダーク
green     ग्रीन     грин      grin      grin      grien     그린        grin      grin      grin      krien     グリーン
heavy     हेवी      хеви      jevi      evi       hewwi     헤비        hevi      hewi      révi      hevvie    ヘビー
old       ओल्ड      оулд      ould      old       ohld      올드        old       old       ôudi      oolt      オールド
red       रेड       ред       red       red       red       레드        red       red       rédi      ret       レッド
small     स्मॉल     смол      esmol     smol      smohl     스몰        smol      smol      ismól     smol      スモール
yellow    येलो      йелоу     yelou     iello     jelloh    옐로우       yelo      jeloł     iélou     jello     イエロー
apples    एप्पल्स   эпплс     ápels     eppols    äppels    애플스       epıls     epyls     épous     eppels    アップルズ
boats     बोट्स     боутс     bouts     bots      bohts     보우츠       bouts     bołts     bôutis    boots     ボーツ
books     बुक्स     букс      buks      buks      bucks     북스        buks      buks      búquis    boeks     ブックス
bottles   बॉटल्स    ботлс     bótels    bottols   bottels   보틀스       botıls    botyls    bótous    bottels   ボトルズ
cards     कार्ड्स   кардс     cards     cards     kards     카드스       kards     kards     cárdis    kaarts    カードズ
chairs    चेयर्स    чэрс      chers     cers      tschärs   체어스       çeyrs     czers     tchérs    tsjers    チェアーズ
horses    हॉर्सेज़  хорсес    jorses    orses     horßes    호시스       horsıs    horsys    rórsis    horsis    ホーシズ
letters   लेटर्स    леттерс   léters    letters   letters   레터스       letırs    leters    léters    letters   レターズ
shirts    शर्ट्स    шёртс     cherts    scerts    schörts   셔츠        şörts     szerts    chértis   sjurts    シャーツ
behind    बिहाइंड   бихайнд   bijáind   biaind    behaind   비하인드      bihaynd   bihajnd   birráindi bihaint   ビハインド
near      नियर      ниар      nier      nir       nier      니어        niyır     nir       nir       nier      ニア
the       द         зэ        de        de        se        더         dı        de        dâ        de        ザ
under     अंडर      андер     ánder     ander     ander     언더        andır     ander     ânder     ander     アンダー
bridge    ब्रिज     бридж     brich     brigge    brittsch  브리지       bric      brydż     brídji    britsj    ブリッジ
garden    गार्डन    гарден    gárden    garden    garden    가든        gardın    garden    gárden    kaarden   ガーデン
harbour   हार्बर    харбор    járbor    arbor     harbor    하버        harbır    harbor    rárbor    harber    ハーバー
market    मार्केट   маркет    márket    market    market    마켓        markıt    market    márqueti  market    マーケット
river     रिवर      ривер     ríver     river     riwwer    리버        rivır     rywer     ríver     river     リバー
school    स्कूल     скул      eskul     skul      skuhl     스쿨        sıkul     skul      iscul     skoel     スクール
monday    मंडे      мандей    mándei    mandei    mandeh    먼데이       mandey    mandej    mândei    mandee    マンデー
thursday  थर्सडे    сёрсдей   zérsdei   tersdei   ßörsdeh   써스데이      törsdey   fersdej   térsdei   sursdee   サーズデー
today     टुडे      тудей     tudéi     tudei     tudeh     투데이       tudey     tudej     tudêi     toedee    トゥデイ
tonight   टुनाइट    тунайт    tunáit    tunait    tunait    투나이트      tunayt    tunajt    tunáiti   toenait   トゥナイト
"""

_HEADER, *_ROWS = (line.split() for line in _TABLE.strip().splitlines())
RESPELLING: dict[str, dict[str, str]] = {row[0]: dict(zip(_HEADER[1:], row[1:])) for row in _ROWS}
"""Word -> language -> spelling."""


def respell(sentence: str, language: str) -> str:
    """An English sentence in the orthography of `language`.

    Raises:
        KeyError: a word or a language that is not in the table.
    """
    return " ".join(RESPELLING[word][language] for word in sentence.split())
